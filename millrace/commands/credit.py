"""`millrace credit`: give a tenant something back, as a row of the ledger."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from typing import Annotated

import typer

from millrace.commands.options import DataDir


def credit(
    amount: Annotated[str, typer.Argument(help="Dollars given to the tenant, to the nano-dollar: 12.50.")],
    tenant: Annotated[str, typer.Option(help="Who gets it.")],
    reason: Annotated[str, typer.Option(help="Why: it stands in the ledger.")],
    key: Annotated[str, typer.Option(help="The request that it is about.", show_default="none")] = "",
    charge: Annotated[bool, typer.Option("--charge", help="Take it instead of giving it.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Write a credit to the ledger; no row is ever edited."""
    from datetime import UTC, datetime

    from millrace.corrections import credit as make_credit
    from millrace.corrections import parse_dollars, publish, until_stored
    from millrace.cost_view import decimals, money
    from millrace.ledger_client import ledger
    from millrace.load_settings import load_connected_settings

    nano = parse_dollars(amount) * (-1 if charge else 1)
    settings = load_connected_settings(data_dir)
    with ledger(data_dir) as client:
        event = make_credit(client, tenant, nano, reason, key, datetime.now(UTC))
        sent = asyncio.run(publish(settings, [event]))
        stored = asyncio.run(until_stored(client, sent))
    what = "charged" if charge else "credited"
    typer.echo(f"{tenant} is {what} {money(abs(nano), decimals([nano]))}: event {event.event_id}")
    if not stored:
        typer.echo("It is in Kafka, and not in the ledger yet.")
