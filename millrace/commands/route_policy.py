"""`millrace route apply|show|calibrate|reset|replay`: the routing policy in force, and what another would have done."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.commands.options import DataDir, Format

if TYPE_CHECKING:
    from contracts.policy_record import PolicyRecord
    from contracts.settings import Settings
    from millrace.routing.policy_topic import Span

PolicyFile = Annotated[Path, typer.Argument(help="A routes.toml.", exists=True, dir_okay=False)]
Uncalibrated = Annotated[
    bool, typer.Option("--uncalibrated", help="A spend_target's max_complexity stays as the file has it.")
]
Since = Annotated[str, typer.Option(help="1h, 7d, or a date or time in UTC.")]


def apply(
    file: PolicyFile,
    scorer: Annotated[
        Path | None, typer.Option(help="From `route train`; else the one in use stays.", exists=True, dir_okay=False)
    ] = None,
    shipped_scorer: Annotated[bool, typer.Option("--shipped-scorer", help="Back to the shipped one.")] = False,
    since: Since = "1d",
    uncalibrated: Uncalibrated = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, calibrate and show; change nothing.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Check a routing policy as a whole, calibrate its spend_target on recent traffic, and put it in force at once."""
    from millrace.load_settings import load_connected_settings
    from millrace.routing.policy_topic import make_policy, read_policy, read_scorer

    async def prepare(settings: "Settings") -> "PolicyRecord":
        running = None if shipped_scorer or scorer else await read_policy(settings)
        artefact = read_scorer(scorer) if scorer else running.scorer if running else None
        span = None if uncalibrated else span_of(since)
        return await make_policy(settings, toml, str(file), artefact, span)

    settings, toml = load_connected_settings(data_dir), _read(file)
    record = asyncio.run(prepare(settings))
    _settle(settings, record, dry_run=dry_run)


def calibrate(
    since: Since = "1d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show; change nothing.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Set the applied policy's threshold anew, by the traffic since then: its spend_target stays what it is."""
    from millrace.load_settings import load_connected_settings
    from millrace.routing.policy_topic import make_policy, read_policy

    async def prepare(settings: "Settings") -> "PolicyRecord":
        running = _applied(await read_policy(settings))
        return await make_policy(settings, running.toml, "the applied policy", running.scorer, span_of(since))

    settings = load_connected_settings(data_dir)
    _settle(settings, asyncio.run(prepare(settings)), dry_run=dry_run)


def show(
    toml: Annotated[bool, typer.Option("--toml", help="The file itself, as it was applied.")] = False,
    data_dir: DataDir = None,
    format_: Format = "table",
) -> None:
    """Show the routing policy in force."""
    from contracts.policy_record import PolicyRecord
    from millrace.load_settings import load_connected_settings
    from millrace.routing.policy_topic import own_file, read_policy

    settings = load_connected_settings(data_dir)
    record = asyncio.run(read_policy(settings))
    if record is None:
        typer.echo("No policy is applied: each process goes by its own routes file.", err=True)
        record = PolicyRecord(toml=own_file(settings), applied_at=0)
    if toml:
        typer.echo(record.toml, nl=False)
    elif format_ == "json":
        typer.echo(record.model_dump_json(indent=2, exclude={"scorer"}))
    else:
        _show(settings, record)


def reset(data_dir: DataDir = None) -> None:
    """Give the policy back to each process's own routes file."""
    from millrace.load_settings import load_connected_settings
    from millrace.routing.policy_topic import publish_policy, read_policy

    async def withdraw(settings: "Settings") -> None:
        _applied(await read_policy(settings))
        await publish_policy(settings, None)

    asyncio.run(withdraw(load_connected_settings(data_dir)))
    typer.echo("each process goes by its own routes file again")


def replay(
    policy: Annotated[
        Path | None,
        typer.Option(help="A routes.toml to try.", exists=True, dir_okay=False, show_default="the one in force"),
    ] = None,
    scorer: Annotated[Path | None, typer.Option(help="From `route train`.", exists=True, dir_okay=False)] = None,
    since: Since = "1d",
    uncalibrated: Uncalibrated = False,
    most: Annotated[int | None, typer.Option(min=1, help="Only about so many requests, drawn by key.")] = None,
    data_dir: DataDir = None,
    format_: Format = "table",
) -> None:
    """Show where past requests would have gone under another policy, and what for; from the log, nothing is run."""
    import orjson
    from rich.console import Console

    from contracts.prices import load_prices
    from millrace.load_settings import load_connected_settings
    from millrace.routing.hindsight import Alternative, Hindsight
    from millrace.routing.policy_view import show_hindsight
    from millrace.routing.traffic import past_requests
    from streams.policy.running import router_of

    settings, span = load_connected_settings(data_dir), span_of(since)
    record = _tried(settings, policy, scorer, None if uncalibrated else span)
    prices = load_prices(settings.prices_file)
    found = Hindsight(Alternative(router_of(record, prices), prices))
    seen = asyncio.run(past_requests(settings, *span, found.take, most))
    if format_ == "json":
        calibration = record.calibration.model_dump() if record.calibration else None
        document = {**found.document(), **seen._asdict(), "calibration": calibration}
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        show_hindsight(found, seen, Console())


def _tried(settings: "Settings", policy: Path | None, scorer: Path | None, span: "Span | None") -> "PolicyRecord":
    """The policy that a replay is about; a file's is calibrated on the span that it is tried on."""
    from contracts.policy_record import PolicyRecord
    from millrace.routing.policy_topic import calibrated, policy_in_force, read_scorer

    if policy is None:
        return asyncio.run(policy_in_force(settings))
    toml, artefact = _read(policy), read_scorer(scorer) if scorer else None
    record = PolicyRecord(toml=toml, scorer=artefact, applied_at=0)
    return asyncio.run(calibrated(settings, record, span)) if span else record


def _read(policy: Path) -> str:
    """Raises ConfigError with line and reason when it doesn't fit."""
    from contracts.catalogue import load_catalogue

    load_catalogue(policy)
    return policy.read_text()


def _settle(settings: "Settings", record: "PolicyRecord", *, dry_run: bool) -> None:
    from millrace.routing.policy_topic import publish_policy

    if not dry_run:
        asyncio.run(publish_policy(settings, record))
    _show(settings, record)
    typer.echo("nothing was changed" if dry_run else "in force", err=True)


def _show(settings: "Settings", record: "PolicyRecord") -> None:
    from rich.console import Console

    from contracts.prices import load_prices
    from millrace.routing.policy_view import show_policy
    from streams.policy.running import router_of

    router = router_of(record, load_prices(settings.prices_file))
    show_policy(router.version, router.catalogue, record.calibration, Console())


def _applied(record: "PolicyRecord | None") -> "PolicyRecord":
    from contracts.errors import StackError

    if record is None:
        raise StackError("No policy is applied: each process goes by its own routes file. `millrace route apply FILE`.")
    return record


def span_of(since: str) -> "Span":
    """From then until now."""
    from millrace.routing.policy_topic import Span
    from millrace.times import parse_moment

    now = datetime.now(UTC)
    return Span(int(parse_moment(since, now).timestamp() * 1000), int(now.timestamp() * 1000) + 1)
