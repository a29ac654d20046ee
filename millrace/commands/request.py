"""`millrace request KEY`: one request's life."""

# ruff: noqa: PLC0415 - keeps --help fast

from typing import Annotated, Literal

import typer

from millrace.commands.options import DataDir


def request(
    key: Annotated[str, typer.Argument(help="Its idempotency key.")],
    tenant: Annotated[str, typer.Option(help="Whose; needed only where several use the key.")] = "",
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print it.")] = "table",
    data_dir: DataDir = None,
) -> None:
    """Show every step of a request with its time, tokens, model, price, cost and place in Kafka."""
    from analytics.reports import request_rows
    from millrace.ledger_client import ledger
    from millrace.request_view import show_request

    with ledger(data_dir) as client:
        rows = request_rows(client, key, tenant)
    if not rows:
        raise typer.Exit(_not_in_ledger(key, tenant))
    show_request(rows, format_)


def _not_in_ledger(key: str, tenant: str) -> int:
    whose = f" of tenant {tenant}" if tenant else ""
    typer.echo(
        f"millrace: {key}{whose} is not in the ledger: it is unfinished, or ended less than two seconds ago, or the "
        "ledger never had it.",
        err=True,
    )
    return 1
