"""`millrace reprice`: what it would have cost by other prices."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from millrace.commands.options import DataDir, ExportFormat, Output


def reprice(
    prices: Annotated[Path, typer.Option(help="The new price table (TOML); its version is cited by what it changes.")],
    since: Annotated[str, typer.Option(help="1h, 7d, or a date or time in UTC.")],
    until: Annotated[str | None, typer.Option(help="Likewise.", show_default="now")] = None,
    commit: Annotated[bool, typer.Option("--commit", help="Write the differences as adjustments.")] = False,
    reason: Annotated[str, typer.Option(help="Why: it stands with each adjustment.")] = "",
    format_: ExportFormat = "table",
    output: Output = None,
    data_dir: DataDir = None,
) -> None:
    """Show what a period costs by another price table, per tenant; the ledger is touched by --commit only."""
    from datetime import UTC, datetime

    from analytics.reprice import Repricing
    from contracts.prices import load_prices
    from millrace.ledger_client import ledger
    from millrace.load_settings import load_connected_settings
    from millrace.options_read import period
    from millrace.reprice_view import commit_adjustments, show_differences

    table = load_prices(prices)
    now = datetime.now(UTC)
    first, last = period(since, until)
    repricing = Repricing(table, first or now, last or now)
    with ledger(data_dir) as client:
        show_differences(repricing, repricing.differences(client), format_, output)
        if commit:
            settings = load_connected_settings(data_dir)
            events = repricing.adjustments(client, now, reason or f"reprice to {table.version}")
            asyncio.run(commit_adjustments(settings, client, events))
