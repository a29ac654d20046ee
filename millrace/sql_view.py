"""The answer to a SQL statement, on the terminal."""

import re
import sys
from typing import Any

import orjson
from rich.console import Console

from analytics.clickhouse import Client
from millrace.grid import Column, Grid, GridFormat, write_json

_MOST_ROWS = 1000
_OWN_FORMAT = re.compile(r"\bFORMAT\s+\w+\s*$", re.IGNORECASE)
_NUMBER = re.compile(r"(Nullable\(|LowCardinality\()*(U?Int|Float|Decimal)\d")


def show_answer(client: Client, statement: str, format_: GridFormat) -> None:
    """A statement with its own FORMAT clause is printed as ClickHouse answers it. Raises ClickHouseError."""
    statement = statement.strip().rstrip("; \n")
    if _OWN_FORMAT.search(statement):
        sys.stdout.flush()
        sys.stdout.buffer.write(client.raw_query(statement))
    elif format_ == "csv":
        sys.stdout.write(client.raw_query(statement, fmt="CSVWithNames").decode())
    elif format_ == "json":
        write_json([orjson.loads(line) for line in client.raw_query(statement, fmt="JSONEachRow").splitlines()])
    else:
        _table(orjson.loads(client.raw_query(statement, fmt="JSONCompact") or b"{}"))


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
