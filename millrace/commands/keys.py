"""`millrace keys`: API keys of tenants."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from millrace.commands.options import DataDir, Format

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose requests these are, and who pays.")] = "",
    user: Annotated[str, typer.Option(help="Every request with this key counts as this user's.")] = "",
    operator: Annotated[bool, typer.Option("--operator", help="It opens the dashboard for every tenant.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Make a key. It is printed this once; only its hash is stored."""
    from millrace.keys import OPERATOR_TENANT, create_key
    from millrace.load_settings import load_connected_settings

    if not tenant and not operator:
        raise typer.BadParameter("name a tenant, or say --operator")
    if user and operator:
        raise typer.BadParameter("an operator's key is nobody's of a tenant: leave --user out")
    settings = load_connected_settings(data_dir)
    made = asyncio.run(create_key(settings, tenant or OPERATOR_TENANT, user, operator=operator))
    typer.echo(made.secret)
    typer.echo(f"{made.key.id}, tenant {made.key.tenant}: store it now, it can't be shown again", err=True)


@app.command("list")
def list_(data_dir: DataDir = None, format_: Format = "table") -> None:
    """Show every key that is valid; never its secret."""
    from millrace.keys import list_keys
    from millrace.load_settings import load_connected_settings
    from millrace.tables import print_rows

    keys = asyncio.run(list_keys(load_connected_settings(data_dir)))
    rows = [
        {
            "id": key.id,
            "tenant": key.tenant,
            "user": key.user,
            "operator": "yes" if key.operator else "",
            "created": _iso(key.created_at),
        }
        for key in keys
    ]
    print_rows(rows, ("id", "tenant", "user", "operator", "created"), format_)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")], data_dir: DataDir = None) -> None:
    """Make a key invalid, everywhere, within milliseconds."""
    from millrace.keys import revoke_key
    from millrace.load_settings import load_connected_settings

    key = asyncio.run(revoke_key(load_connected_settings(data_dir), key_id))
    typer.echo(f"{key.id} of tenant {key.tenant} is revoked")


def _iso(utc_ms: int) -> str:
    return datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
