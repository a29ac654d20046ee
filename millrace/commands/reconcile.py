"""`millrace reconcile`: nothing lost, nothing billed twice: shown from Kafka's and ClickHouse's own records."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from typing import Annotated

import typer

from millrace.commands.options import DataDir, Format

_SETTLING_SECONDS = 60  # what was accepted later than this is mostly still in flight


def reconcile(
    since: Annotated[str, typer.Option(help="1h, 7d, or a date or time in UTC.")] = "1h",
    until: Annotated[
        str, typer.Option(help="Likewise; 0s is now. What is in flight then is shown apart.")
    ] = f"{_SETTLING_SECONDS}s",
    repair: Annotated[
        bool, typer.Option("--repair", help="Read what ClickHouse misses from Kafka again, then look once more.")
    ] = False,
    rows: Annotated[int, typer.Option(min=0, help="Most findings printed; JSON has up to 1000 of each kind.")] = 20,
    format_: Format = "table",
    data_dir: DataDir = None,
) -> None:
    """Prove that every accepted request was answered once and billed once; exit 1 when something is off."""
    from datetime import UTC, datetime

    from analytics.reconcile.collect import Window
    from analytics.reports import utc_ms
    from contracts.errors import InvalidRequest
    from millrace.reconcile_run import run
    from millrace.reconcile_view import show_report
    from millrace.times import parse_moment

    now = datetime.now(UTC)
    window = Window(utc_ms(parse_moment(since, now)), utc_ms(parse_moment(until, now)))
    if window.since >= window.until:
        raise InvalidRequest("--since must be before --until.", param="since")
    report, repaired = asyncio.run(run(data_dir, window, repair=repair))
    show_report(report, format_, rows=rows, repaired=repaired)
    if not report.clean:
        raise typer.Exit(1)
