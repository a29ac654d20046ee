"""The answer to a SQL statement, on the terminal."""

import re
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from analytics.clickhouse import Client
from millrace.grid import Column, Grid
from millrace.rows_file import ExportFormat, file_format, write_content

_MOST_ROWS = 1000
_FORMATS = {"csv": "CSVWithNames", "json": "JSONEachRow", "parquet": "Parquet"}
_OWN_FORMAT = re.compile(r"\bFORMAT\s+\w+\s*$", re.IGNORECASE)
_NUMBER = re.compile(r"(Nullable\(|LowCardinality\()*(U?Int|Float|Decimal)\d")


def show_answer(client: Client, statement: str, format_: ExportFormat, output: Path | None = None) -> None:
    """A statement with its own FORMAT clause is given as ClickHouse answers it. Raises ClickHouseError,
    InvalidRequest."""
    statement = statement.strip().rstrip("; \n")
    own = _OWN_FORMAT.search(statement)
    if not own and not output and format_ == "table":
        _table(orjson.loads(client.raw_query(statement, fmt="JSONCompact") or b"{}"))
        return
    wanted = file_format(format_, output)
    content = client.raw_query(statement, fmt=None if own else _FORMATS[wanted])
    if not own and wanted == "json":
        rows = [orjson.loads(line) for line in content.splitlines()]
        content = orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n"
    write_content(content, "csv" if own else wanted, output)


def _table(answer: dict[str, Any]) -> None:
    console = Console()
    columns = [Column(column["name"], _NUMBER.match(column["type"]) is not None) for column in answer.get("meta", ())]
    rows = [[_cell(value) for value in row] for row in answer.get("data", ())]
    if columns:
        console.print(Grid(columns, rows[:_MOST_ROWS]).table())
    if len(rows) > _MOST_ROWS:
        console.print(f"… and {len(rows) - _MOST_ROWS:,} more rows (--format csv has them)")
    elif not rows:
        console.print("No rows.", style="dim")


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else orjson.dumps(value).decode()
