"""`millrace demo`: the main job on the shipped sample of real traffic."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
import contextlib
from typing import Annotated

import typer

from millrace.commands.options import DataDir


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running afterwards, until Ctrl-C.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Start the stack, replay real traffic, print the bill, stop."""
    from millrace.demo import demo as run_demo

    status = 130
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        status = asyncio.run(run_demo(data_dir, keep=keep))
    raise typer.Exit(status)
