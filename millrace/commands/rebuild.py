"""`millrace rebuild`: the ledger once more, from Kafka's first offset, to compare and to swap."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from typing import Annotated

import typer

from millrace.commands.options import DataDir, Format


def rebuild(
    swap: Annotated[
        bool, typer.Option("--swap", help="Put the new table in the old one's place, which stays as usage_before.")
    ] = False,
    format_: Format = "table",
    data_dir: DataDir = None,
) -> None:
    """Build the usage table anew from Kafka; exit 1 unless it holds the same as the old one, to the nano-dollar."""
    from millrace.rebuild_run import run
    from millrace.rebuild_view import show_rebuilt

    rebuilt, newer = asyncio.run(run(data_dir, swap=swap))
    show_rebuilt(rebuilt, newer, format_)
    if rebuilt.unequal and newer is None:
        raise typer.Exit(1)
