"""`millrace top`: what runs, waits and fails, live."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from contextlib import suppress
from typing import Annotated

import typer

from millrace.commands.options import DataDir


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and exit.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two frames.")] = 2.0,
    data_dir: DataDir = None,
) -> None:
    """Show stages, models, workers and limits, live; q quits."""
    from rich.console import Console

    from millrace.ledger_client import ledger_address
    from millrace.load_settings import load_connected_settings
    from millrace.top import Top

    settings = ledger_address(load_connected_settings(data_dir), data_dir)
    shown = Top(settings, f"millrace top  {settings.kafka_bootstrap_servers}")
    console = Console(highlight=False)
    with suppress(KeyboardInterrupt):
        asyncio.run(shown.once(console) if once or not console.is_terminal else shown.run(console, interval))
