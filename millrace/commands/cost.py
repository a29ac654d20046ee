"""`millrace cost`: what it cost, by whom and for what."""

# ruff: noqa: PLC0415 - keeps --help fast

from typing import Annotated

import typer

from millrace.commands.options import DataDir, ExportFormat, Output


def cost(
    by: Annotated[
        str,
        typer.Option(
            help="Any of tenant, user, feature, tag:NAME, model, model_version, requested_model, api_key_id, route, "
            "outcome, lane, operation, engine, price_version, hour, day, month; comma-separated."
        ),
    ] = "tenant",
    only: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of one of these; may be given several times.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="1h, 7d, or a date or time in UTC.", show_default="all there is")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Likewise.", show_default="now")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Longest table; totals are over all.")] = 50,
    format_: ExportFormat = "table",
    output: Output = None,
    data_dir: DataDir = None,
) -> None:
    """Show requests, tokens and dollars, exactly, by any dimension of the ledger."""
    from analytics.reports import CostReport
    from millrace.cost_view import show_cost
    from millrace.ledger_client import ledger
    from millrace.options_read import names, pairs, period

    report = CostReport(names(by), *period(since, until), pairs(only))
    with ledger(data_dir) as client:
        lines = report.lines(client)
    show_cost(report, lines, format_, rows=rows, output=output)
