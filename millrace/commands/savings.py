"""`millrace savings`: what the cache and the router have saved, and what crashes have cost."""

# ruff: noqa: PLC0415 - keeps --help fast

from pathlib import Path
from typing import Annotated

import typer

from millrace.commands.options import DataDir, ExportFormat, Output


def savings(
    since: Annotated[str, typer.Option(help="1h, 7d, or a date or time in UTC.")] = "30d",
    until: Annotated[str | None, typer.Option(help="Likewise.", show_default="now")] = None,
    large: Annotated[
        str, typer.Option(help="The model that everything would have gone to without a router.")
    ] = "large",
    prices: Annotated[
        Path | None, typer.Option(help="The price table (TOML) to count by.", show_default="the one in force")
    ] = None,
    format_: ExportFormat = "table",
    output: Output = None,
    data_dir: DataDir = None,
) -> None:
    """Show what prefix cache, router and duplicates have saved at list price, and what second runs would have cost."""
    from datetime import UTC, datetime

    from analytics.savings import SavingsReport
    from contracts.prices import load_prices
    from contracts.settings import Settings
    from millrace.ledger_client import ledger
    from millrace.load_settings import load
    from millrace.options_read import period
    from millrace.savings_view import show_savings

    first, last = period(since, until)
    now = datetime.now(UTC)
    report = SavingsReport(load_prices(prices or load(Settings).prices_file), large, first or now, last or now)
    with ledger(data_dir) as client:
        lines = report.lines(client)
    show_savings(report, lines, format_, output)
