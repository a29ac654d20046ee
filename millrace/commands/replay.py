"""`millrace replay`: real arrivals and sizes through the running stack, and a report."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from millrace.commands.options import DataDir


def replay(
    file: Annotated[Path, typer.Argument(help="CSV with TIMESTAMP, ContextTokens, GeneratedTokens.")],
    speed: Annotated[float, typer.Option(min=0.01, help="Times faster than it was.")] = 10.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many requests.", show_default=False)] = None,
    data_dir: DataDir = None,
) -> None:
    """Drive the running stack with a trace; exit 1 unless all is answered and the ledger agrees with the client."""
    from rich.console import Console

    from millrace.load_settings import load_stack_settings
    from millrace.replay.run import replay as run_replay

    folder = load_stack_settings(data_dir).data_dir
    if not asyncio.run(run_replay(file, folder, speed=speed, limit=limit, console=Console())):
        raise typer.Exit(1)
