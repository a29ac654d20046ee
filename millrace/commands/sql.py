"""`millrace sql`: ask the ledger anything."""

# ruff: noqa: PLC0415 - keeps --help fast

from typing import Annotated

import typer

from millrace.commands.options import DataDir, ExportFormat, Output


def sql(
    statement: Annotated[str, typer.Argument(help="One statement that reads; `DESCRIBE usage` shows the columns.")],
    format_: ExportFormat = "table",
    output: Output = None,
    data_dir: DataDir = None,
) -> None:
    """Run one read-only SQL statement (ClickHouse's) on the ledger."""
    from millrace.ledger_client import ledger
    from millrace.sql_view import show_answer

    with ledger(data_dir) as client:
        show_answer(client, statement, format_, output)
