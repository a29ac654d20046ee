"""`millrace limits`: how much may be used by whom, and how much is."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from millrace.commands.options import DataDir, Format

if TYPE_CHECKING:
    from contracts.limits import Selector

app = typer.Typer(
    help="Set, show and watch limits of tenants, users, features and API keys. They hold at once, everywhere.",
    no_args_is_help=True,
)

Tenant = Annotated[str, typer.Option(help="A tenant's name; '*' for each one.", show_default=False)]
User = Annotated[str | None, typer.Option(help="A user; '*' for each; '' for requests without one.")]
Feature = Annotated[str | None, typer.Option(help="Likewise.")]
ApiKey = Annotated[str | None, typer.Option(help="Likewise; an id, as `millrace keys list` shows it.")]
Count = Annotated[str | None, typer.Option(help="A number (200000, 200k, 2M), 'unlimited', or 'default'.")]
Dollars = Annotated[str | None, typer.Option(help="Dollars (2.50), 'unlimited', or 'default'.")]


@app.command("set")
def set_(  # noqa: PLR0913, PLR0917 - one for each figure
    tenant: Tenant = "",
    user: User = None,
    feature: Feature = None,
    api_key: ApiKey = None,
    tokens_per_minute: Count = None,
    tokens_per_day: Count = None,
    requests_per_minute: Count = None,
    concurrent_requests: Count = None,
    dollars_per_day: Dollars = None,
    dollars_per_month: Dollars = None,
    data_dir: DataDir = None,
) -> None:
    """Set figures of one limit; others that it has stay. In force within a second, without a restart.

    'default' gives a figure back to the next more general limit."""
    from pydantic import ValidationError

    from contracts.errors import InvalidRequest
    from contracts.limits import FIGURES
    from millrace.limits import set_figures
    from millrace.limits_view import parse_count
    from millrace.load_settings import load_connected_settings

    counts = {
        "tokens_per_minute": tokens_per_minute,
        "tokens_per_day": tokens_per_day,
        "requests_per_minute": requests_per_minute,
        "concurrent_requests": concurrent_requests,
    }
    money = {"dollars_per_day": dollars_per_day, "dollars_per_month": dollars_per_month}
    figures = {name: parse_count(text) for name, text in counts.items() if text is not None}
    figures |= {name: text for name, text in money.items() if text is not None}
    if not figures:
        raise typer.BadParameter("give a figure, e.g. --tokens-per-day 200k")
    selector = _selector(tenant, user, feature, api_key)
    try:
        limit = asyncio.run(set_figures(load_connected_settings(data_dir), selector, figures))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{part}: " for part in first["loc"][:1])
        raise InvalidRequest(f"{place}{first['msg'].removeprefix('Value error, ')}.") from None
    set_now = limit.model_dump(include={*FIGURES}, exclude_none=True)
    said = ", ".join(f"{name} = {figure}" for name, figure in set_now.items())
    typer.echo(f"set for {selector}: {said}")


@app.command()
def remove(
    tenant: Tenant = "",
    user: User = None,
    feature: Feature = None,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
) -> None:
    """Take one limit away."""
    from millrace.limits import remove_limit
    from millrace.load_settings import load_connected_settings

    selector = _selector(tenant, user, feature, api_key)
    asyncio.run(remove_limit(load_connected_settings(data_dir), selector))
    typer.echo(f"removed for {selector}")


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="A limits.toml.", exists=True, dir_okay=False)],
    check: Annotated[bool, typer.Option("--check", help="Only say whether the file is right.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Put a file's limits in the place of all that there are: as a whole, or not at all when any of it is wrong."""
    from contracts.limits import parse_limits
    from millrace.limits import apply_limits
    from millrace.load_settings import load_connected_settings

    limits = parse_limits(file.read_text(), str(file))
    if check:
        typer.echo(f"{file} is right: {len(limits)} limits")
        return
    changes = asyncio.run(apply_limits(load_connected_settings(data_dir), limits))
    for sign, selectors in zip("+~-", changes, strict=True):
        for selector in selectors:
            typer.echo(f"{sign} {selector}")
    typer.echo(f"{len(limits)} limits hold: {', '.join(_counted(changes._asdict()))}")


@app.command()
def show(
    format_: Annotated[Literal["table", "json", "toml"], typer.Option("--format", help="How to print it.")] = "table",
    data_dir: DataDir = None,
) -> None:
    """Show the limits that are set; `--format toml` writes the file that `apply` reads."""
    from millrace.limits import read_limits
    from millrace.limits_view import show_limits
    from millrace.load_settings import load_connected_settings

    settings = load_connected_settings(data_dir)
    limits = asyncio.run(read_limits(settings))
    show_limits(list(limits.values()), settings, format_)


@app.command()
def usage(
    tenant: Annotated[str, typer.Option(help="One tenant's.", show_default="all")] = "",
    user: Annotated[str | None, typer.Option(help="With --tenant: this user's alone.")] = None,
    feature: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Likewise, an id.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Longest table.")] = 30,
    format_: Format = "table",
    data_dir: DataDir = None,
) -> None:
    """Show how much of their limits callers use now, as the meters count it; the nearest to a limit first."""
    from contracts.limits import Selector
    from millrace.limits import ask_usage
    from millrace.limits_view import show_usage
    from millrace.load_settings import load_connected_settings

    if not tenant and (user or feature or api_key):
        raise typer.BadParameter("name their --tenant too: no limit spans tenants")
    selector = Selector(tenant or "*", user, feature, api_key)
    accounts, complete = asyncio.run(ask_usage(load_connected_settings(data_dir), selector))
    show_usage(accounts, format_, rows=rows, complete=complete)


def _selector(tenant: str, user: str | None, feature: str | None, api_key: str | None) -> "Selector":
    from contracts.limits import Selector

    if not tenant and user is None and feature is None and api_key is None:
        raise typer.BadParameter("say whose: --tenant NAME ('*' for each one), --user, --feature, --api-key")
    return Selector(tenant or "*", user, feature, api_key)


def _counted(changes: dict[str, list["Selector"]]) -> list[str]:
    return [f"{len(selectors)} {name}" for name, selectors in changes.items()]
