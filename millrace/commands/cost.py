"""`millrace cost`: what it cost, by whom and for what."""

# ruff: noqa: PLC0415 - keeps --help fast

from typing import Annotated, Literal

import typer

from millrace.commands.options import DataDir


def cost(
    by: Annotated[
        str,
        typer.Option(
            help="Any of tenant, user, feature, model, model_version, api_key_id, route, outcome, lane, hour, day, "
            "month; comma-separated."
        ),
    ] = "tenant",
    since: Annotated[
        str | None, typer.Option(help="1h, 7d, or a date or time in UTC.", show_default="all there is")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Likewise.", show_default="now")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Longest table; totals are over all.")] = 50,
    format_: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="How to print it.")] = "table",
    data_dir: DataDir = None,
) -> None:
    """Show requests, tokens and dollars, exactly, by any dimension of the ledger."""
    from datetime import UTC, datetime

    from analytics.reports import CostReport
    from millrace.cost_view import show_cost
    from millrace.ledger_client import ledger
    from millrace.times import parse_moment

    now = datetime.now(UTC)
    report = CostReport(
        by=tuple(name.strip() for name in by.split(",") if name.strip()),
        since=parse_moment(since, now) if since else None,
        until=parse_moment(until, now) if until else None,
    )
    with ledger(data_dir) as client:
        lines = report.lines(client)
    show_cost(report, lines, format_, rows=rows)
