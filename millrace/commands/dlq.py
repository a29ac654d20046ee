"""`millrace dlq`: what could not be understood, or kept killing its worker."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.commands.options import DataDir, Format

if TYPE_CHECKING:
    from millrace.dlq import Filter, Letter

app = typer.Typer(help="List, show, redrive and drop dead letters.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(help="As `dlq list` shows them.", show_default=False)]
Stage = Annotated[str, typer.Option(help="dedupe, meter, settle, worker or sink.", show_default="all")]
Tenant = Annotated[str, typer.Option(help="Whose.", show_default="all")]
Reason = Annotated[str, typer.Option(help="Part of the reason, in any case.", show_default="all")]
Since = Annotated[str, typer.Option(help="1h, 7d, or a date or time in UTC.", show_default="all there is")]
All = Annotated[bool, typer.Option("--all", help="Every open letter, when nothing else says which.")]


@app.command("list")
def list_(
    stage: Stage = "",
    tenant: Tenant = "",
    reason: Reason = "",
    since: Since = "",
    handled: Annotated[bool, typer.Option("--handled", help="Those that were redriven or dropped, too.")] = False,
    rows: Annotated[int, typer.Option(min=1, help="Longest list, of the newest.")] = 50,
    format_: Format = "table",
    data_dir: DataDir = None,
) -> None:
    """Show dead letters that wait for somebody to decide."""
    from millrace.dlq import find_letters
    from millrace.dlq_view import show_letters
    from millrace.load_settings import load_connected_settings

    wanted = _filter([], stage, tenant, reason, since, handled=handled)
    letters = asyncio.run(find_letters(load_connected_settings(data_dir), wanted))
    show_letters(letters, format_, rows=rows)


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `dlq list` shows it.")],
    format_: Format = "table",
    data_dir: DataDir = None,
) -> None:
    """Show one dead letter: its reason and origin, its headers and its value."""
    from millrace.dlq import Filter, find_letters
    from millrace.dlq_view import show_letter
    from millrace.load_settings import load_connected_settings

    wanted = Filter(ids=frozenset({id_}), handled=True)
    [letter] = asyncio.run(find_letters(load_connected_settings(data_dir), wanted))
    show_letter(letter, format_)


@app.command()
def redrive(
    ids: Ids = None,
    stage: Stage = "",
    tenant: Tenant = "",
    reason: Reason = "",
    since: Since = "",
    all_: All = False,
    data_dir: DataDir = None,
) -> None:
    """Put records on the topic they came from again, key and all: each is still answered and billed once.

    A request that failed runs once more under its key, and its new answer takes the failure's place. Exit 1 when any
    stays."""
    from millrace.dlq import find_letters
    from millrace.load_settings import load_connected_settings
    from millrace.redrive import redrive as send_again

    wanted = _some(_filter(ids or [], stage, tenant, reason, since), all_=all_)
    settings = load_connected_settings(data_dir)
    stay: list[str] = []

    def told(letter: "Letter", why: str) -> None:
        stay.append(letter.id)
        typer.echo(f"{letter.id} stays: {why}", err=True)

    async def run() -> int:
        return await send_again(settings, await find_letters(settings, wanted), told)

    typer.echo(f"{asyncio.run(run())} redriven")
    if stay:
        raise typer.Exit(1)


@app.command()
def drop(
    ids: Ids = None,
    stage: Stage = "",
    tenant: Tenant = "",
    reason: Reason = "",
    since: Since = "",
    all_: All = False,
    data_dir: DataDir = None,
) -> None:
    """Mark dead letters as handled: nothing more is done about them. `list --handled` still shows them."""
    from millrace import dlq
    from millrace.load_settings import load_connected_settings

    wanted = _some(_filter(ids or [], stage, tenant, reason, since), all_=all_)
    settings = load_connected_settings(data_dir)

    async def run() -> int:
        return await dlq.drop(settings, await dlq.find_letters(settings, wanted))

    typer.echo(f"{asyncio.run(run())} dropped")


def _filter(ids: list[str], stage: str, tenant: str, reason: str, since: str, *, handled: bool = False) -> "Filter":
    from datetime import UTC, datetime

    from millrace.dlq import Filter
    from millrace.times import parse_moment

    moment = round(parse_moment(since, datetime.now(UTC)).timestamp() * 1000) if since else 0
    return Filter(frozenset(ids), stage, tenant, reason, moment, handled)


def _some(wanted: "Filter", *, all_: bool) -> "Filter":
    """Everything is only meant where somebody says so."""
    from millrace.dlq import Filter

    if wanted == Filter() and not all_:
        raise typer.BadParameter("name letters, give a filter, or say --all")
    return wanted
