"""Answers as bytes: JSON for the page, JSON and CSV for downloads."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from starlette.responses import Response

from analytics.dashboard.view import Answer, Asked
from analytics.questions import utc_ms

FORMATS = ("page", "json", "csv")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # https://owasp.org/www-community/attacks/CSV_Injection


def page(asked: Asked, answer: Answer) -> Response:
    about = {"since": asked.since, "until": asked.until, "as_of": datetime.now(UTC)}
    return as_json({"rows": answer.rows, "sql": answer.sql, **about, **answer.more})


def download(answer: Answer, name: str, format_: str) -> Response:
    """A file of the rows."""
    response = as_csv(answer.rows) if format_ == "csv" else as_json(answer.rows)
    response.headers["Content-Disposition"] = f'attachment; filename="millrace-{name}.{format_}"'
    return response


def as_json(value: Any, status: int = 200) -> Response:
    body = orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS)
    return Response(body, status, media_type="application/json")


def as_csv(rows: Sequence[Mapping[str, Any]]) -> Response:
    text = io.StringIO()
    if rows:
        writer = csv.writer(text)
        names = list(dict.fromkeys(name for row in rows for name in row))  # not every row has all of them
        writer.writerow(names)
        writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return utc_ms(value)
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "isoformat"):  # a date
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def _cell(value: Any) -> Any:
    """A spreadsheet takes text that begins like a formula for one: with an apostrophe before it, it doesn't."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, dict | list | tuple):
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
