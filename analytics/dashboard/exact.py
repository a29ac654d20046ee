"""Money on its way to the page: a browser has doubles only, so nano-dollars travel as digits in a string."""

from collections.abc import Mapping, Sequence
from typing import Any

from analytics.clickhouse import Client
from analytics.dashboard.view import Answer, Asked
from analytics.spending import Statement
from contracts.errors import InvalidRequest

_MOST_DOWNLOADED = 100_000  # rows


def downloads(asked: Asked) -> bool:
    return asked.text("format", "page") != "page"


def most(asked: Asked, shown: int) -> int:
    """Rows: what a page shows, or all that a file may have."""
    return _MOST_DOWNLOADED if downloads(asked) else shown


async def answer(asked: Asked, statement: Statement, **more: Any) -> Answer:
    """What a statement gives, and its text as it can be run. Raises ClickHouseError."""
    rows = await asked.rows(*statement)
    return Answer(nano_as_text(asked, rows), await sql_of(asked, statement), **more)


def nano_as_text(asked: Asked, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Files have numbers: whoever reads them has 64 bits."""
    if downloads(asked):
        return [dict(row) for row in rows]
    return [{name: _text(name, value) for name, value in row.items()} for row in rows]


def _text(name: str, value: Any) -> Any:
    return str(value) if name.endswith("_nano") and value is not None else value


def named(asked: Asked, names: Sequence[str]) -> dict[str, str]:
    """Those of `names` that the address gives a value; `none` lists what has to be empty. Raises InvalidRequest."""
    empty = [name for name in asked.text("none").split(",") if name]
    if unknown := set(empty) - set(names):
        raise InvalidRequest(f"{', '.join(sorted(unknown))} can't be asked for.", param="none")
    return {name: asked.text(name) for name in names if asked.text(name)} | dict.fromkeys(empty, "")


async def sql_of(asked: Asked, statement: Statement) -> str:
    """In many lines, by ClickHouse's own formatter. Raises ClickHouseError."""
    written = asked.sql(*statement)

    def formatted(client: Client) -> str:
        question = "SELECT formatQuery({statement:String})"
        return str(client.query(question, parameters={"statement": written}).result_rows[0][0])

    return await asked.read(formatted)
