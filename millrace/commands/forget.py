"""`millrace forget`: remove a person's data."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from typing import Annotated

import typer

from millrace.commands.options import DataDir


def forget(
    tenant: Annotated[str, typer.Option(help="Whose user it is.")],
    user: Annotated[str, typer.Option(help="The user, as requests name it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Remove a user's data from stored answers and the ledger, and say what stays in Kafka until when."""
    from millrace.forgetting import forget_person
    from millrace.times import format_moment

    if not yes:
        typer.confirm(f"Remove all that tells of user {user} of tenant {tenant}? There is no way back.", abort=True)
    forgot = asyncio.run(forget_person(data_dir, tenant, user))
    rows = sum(forgot.rows.values())
    typer.echo(f"{rows:,} rows of the ledger no longer tell whose they are; their tokens and costs stay.")
    typer.echo(f"{forgot.answers:,} stored answers are removed: whoever asks for one gets 410.")
    typer.echo("Requests that run now are not covered: do it again when they have ended.")
    typer.echo("What stays, and until when at the latest:")
    for what, until in forgot.stays:
        typer.echo(f"  {f'{format_moment(until)} UTC' if until else 'for good':<22}{what}")
