"""`millrace request KEY`: one request's life."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from millrace.commands.options import DataDir

if TYPE_CHECKING:
    from pathlib import Path


def request(
    key: Annotated[str, typer.Argument(help="Its idempotency key.")],
    tenant: Annotated[str, typer.Option(help="Whose. Needed to ask about one that is still running.")] = "",
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print it.")] = "table",
    data_dir: DataDir = None,
) -> None:
    """Show every step of a request with its time, tokens, model, price, cost and place in Kafka."""
    from analytics.reports import request_rows
    from millrace.ledger_client import ledger
    from millrace.request_view import show_request

    with ledger(data_dir) as client:
        rows = request_rows(client, key, tenant)
    if rows:
        show_request(rows, format_)
    elif tenant:
        _ask_the_streams(key, tenant, format_, data_dir)
    else:
        _fail(f"{key} is not in the ledger. With --tenant the streams are asked whether it is still running.")


def _ask_the_streams(key: str, tenant: str, format_: Literal["table", "json"], data_dir: "Path | None") -> None:
    from contracts.keys import RequestKey, check_idempotency_key, check_tenant
    from millrace.load_settings import load_connected_settings
    from millrace.lookup import look_up
    from millrace.request_view import show_unbilled

    request_key = RequestKey(check_tenant(tenant), check_idempotency_key(key))
    state = asyncio.run(look_up(load_connected_settings(data_dir), request_key))
    if state is None:
        _fail(f"There is no request {key} of tenant {tenant}, neither in the ledger nor running.")
    show_unbilled(request_key, state, format_)


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"millrace: {sentence}", err=True)
    raise typer.Exit(1)
