"""`millrace margin`: what was billed beside what GPUs of our own cost."""

# ruff: noqa: PLC0415 - keeps --help fast

from typing import Annotated

import typer

from millrace.commands.options import DataDir, ExportFormat, Output


def margin(
    since: Annotated[str, typer.Option(help="1h, 7d, or a date or time in UTC.")] = "30d",
    until: Annotated[str | None, typer.Option(help="Likewise.", show_default="now")] = None,
    format_: ExportFormat = "table",
    output: Output = None,
    data_dir: DataDir = None,
) -> None:
    """Show what was billed per tenant and model, what its share of the GPUs cost, and what idle time and waste cost."""
    from datetime import UTC, datetime

    from analytics.margin import MarginReport
    from millrace.ledger_client import ledger
    from millrace.margin_view import show_margin
    from millrace.options_read import period

    now = datetime.now(UTC)
    first, last = period(since, until)
    report = MarginReport(first or now, last or now)
    with ledger(data_dir) as client:
        found = report.run(client)
    show_margin(report, found, format_, output)
