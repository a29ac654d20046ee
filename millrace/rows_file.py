"""Rows for other programs: JSON, CSV or Parquet, to standard output or into a file."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

import orjson

from contracts.errors import InvalidRequest

ExportFormat = Literal["table", "json", "csv", "parquet"]


def write_rows(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], format_: ExportFormat, output: Path | None
) -> None:
    """In a file `table` means CSV, unless its name ends in another format's. Raises InvalidRequest."""
    wanted = file_format(format_, output)
    write_content(_ENCODE[wanted](columns, rows), wanted, output)


def write_content(content: bytes, format_: ExportFormat, output: Path | None) -> None:
    """Raises InvalidRequest."""
    if output:
        output.write_bytes(content)
    elif format_ == "parquet":
        raise InvalidRequest("Parquet is not for a terminal: name a file with --output.", param="output")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)


def file_format(given: ExportFormat, output: Path | None) -> ExportFormat:
    """What is written when it isn't a table: as it was given, or as the file's name ends."""
    if given != "table":
        return given
    ending = output.suffix.removeprefix(".").lower() if output else ""
    return {"json": "json", "parquet": "parquet"}.get(ending, "csv")  # type: ignore[return-value]


def _json(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:  # noqa: ARG001
    return orjson.dumps(list(rows), option=orjson.OPT_INDENT_2, default=str) + b"\n"


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """RFC 4180, but for `\\n` at the ends of lines."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _parquet(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - takes a quarter of a second
    import pyarrow.parquet as pq  # noqa: PLC0415

    table = pa.table({name: pa.array([row[name] for row in rows]) for name in columns})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


_ENCODE = {"json": _json, "csv": _csv, "parquet": _parquet}
