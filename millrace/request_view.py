"""One request's life as people and programs read it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from analytics.reports import dollars
from contracts.frames import RequestState
from contracts.keys import RequestKey
from millrace.grid import Column, Grid, write_json
from millrace.times import format_duration

Row = Mapping[str, Any]
_STEPS = (
    ("accepted", "accepted_at"),
    ("deduped", "deduped_at"),
    ("admitted", "admitted_at"),
    ("started", "started_at"),
    ("first token", "first_token_at"),
    ("finished", "finished_at"),
    ("recorded", "event_time"),
    ("in the ledger", "inserted_at"),
)
_RUNS = ("usage", "waste", "escalated", "shadow")
_AGREEMENT = {"same": "the same answer", "other": "another answer"}
_STYLES = {"succeeded": "green", "failed": "red", "rejected": "red", "expired": "yellow", "timed_out": "yellow"}


def show_request(rows: Sequence[Row], format_: Literal["table", "json"]) -> None:
    """`rows`: of the ledger; its request, the runs beside it that nobody pays for, and what was corrected."""
    if format_ == "json":
        write_json([_record(row) for row in rows])
        return
    console = Console(highlight=False)
    runs = [row for row in rows if row["kind"] in _RUNS]
    for number, row in enumerate(runs):
        if number:
            console.print()
        _print(console, row)
    for row in rows:
        if row["kind"] in ("adjustment", "credit"):
            console.print(Text.assemble((f"{row['kind']:<13}", "dim"), _correction(row)))


def show_unbilled(key: RequestKey, state: RequestState, format_: Literal["table", "json"]) -> None:
    """What the streams know of a request that the ledger doesn't have yet; never its answer's text."""
    known = state.model_dump(include={"id", "status", "model", "created_at", "finished_at"})
    if format_ == "json":
        write_json([{"tenant": key.tenant} | known | {"in_ledger": False}])
        return
    console = Console(highlight=False)
    console.print(Text.assemble((f"{key.tenant}:{key.idempotency_key}", "bold"), "  ", (state.status, "cyan")))
    for name, at in (("accepted", state.created_at), ("finished", state.finished_at)):
        if at is not None:
            moment = datetime.fromtimestamp(at / 1000, UTC)
            ago = format_duration(_ms(moment, datetime.now(UTC)))
            console.print(Text.assemble((f"{name:<13}", "dim"), f"{moment:%Y-%m-%d %H:%M:%S} UTC, {ago} ago"))
    if state.model:
        console.print(Text.assemble((f"{'model':<13}", "dim"), state.model))
    console.print("Not in the ledger yet: the bill follows within two seconds of its end.", style="dim")


def _record(row: Row) -> dict[str, Any]:
    """The ledger's row, times in ISO 8601, with its cost in dollars and its steps."""
    plain = {name: _iso(value) if isinstance(value, datetime) else value for name, value in row.items()}
    steps = [
        {"step": name, "at": _iso(at), "since_accepted_ms": _ms(row["accepted_at"], at)} for name, at in _times(row)
    ]
    return plain | {"cost_dollars": dollars(row["cost_nano"]), "steps": steps}


def _print(console: Console, row: Row) -> None:
    instead = {
        "waste": "wasted run",
        "escalated": f"did not stand: {row['escalated']}",
        "shadow": f"shadow run: {_AGREEMENT.get(row['agreement'], row['outcome'])}",
    }
    outcome = str(instead.get(str(row["kind"]), row["outcome"]))
    title = Text.assemble(
        (f"{row['tenant']}:{row['idempotency_key']}", "bold"),
        "  ",
        (outcome, _STYLES.get(outcome, "cyan")),
        f"  {row['accepted_at']:%Y-%m-%d} UTC",
    )
    console.print(title, soft_wrap=True)
    console.print(_steps(row).table())
    for name, value in _facts(row):
        console.print(Text.assemble((f"{name:<13}", "dim"), value))


def _correction(row: Row) -> str:
    sign = "-" if row["cost_nano"] < 0 else "+"
    prices = f", price version {row['price_version']}" if row["price_version"] else ""
    place = f"{row['topic']} {row['partition']}.{row['offset']}"
    said = f": {row['reason']}" if row["reason"] else ""
    return f"{sign}${dollars(abs(row['cost_nano']))}{prices}, {row['accepted_at']:%Y-%m-%d}, {place}{said}"


def _steps(row: Row) -> Grid:
    numeric = [Column("+", numeric=True), Column("total", numeric=True)]
    columns = [Column("step"), Column("time"), *numeric, Column("what happened")]
    notes = _notes(row)
    cells: list[list[str]] = []
    before = first = row["accepted_at"]
    for name, at in _times(row):
        day = f"{at:%Y-%m-%d} " if at.date() != first.date() else ""
        moment = f"{day}{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        since = [format_duration(_ms(before, at)), format_duration(_ms(first, at))] if cells else ["", ""]
        cells.append([name, moment, *since, notes.get(name, "")])
        before = at
    return Grid(columns, cells)


def _times(row: Row) -> list[tuple[str, datetime]]:
    return [(name, row[column]) for name, column in _STEPS if row[column] is not None]


def _notes(row: Row) -> dict[str, str]:
    """What is worth knowing of a step, beside when it was."""
    return {
        "accepted": f"requests {row['claim']}",
        "admitted": f"rule {row['route']}, score {row['complexity']:.3f}" if row["route"] else "",
        "started": f"{row['engine']} on {row['worker']}",
        "finished": row["finish_reason"],
        "in the ledger": f"{row['topic']} {row['partition']}.{row['offset']}",
    }


def _facts(row: Row) -> list[tuple[str, str]]:
    facts = {
        "answer": f"{row['outcome']}, HTTP {row['status']}",
        "lane": f"{row['lane']}{', streamed' if row['streamed'] else ''}",
        "model": _model(row),
        "tokens": f"{row['prompt_tokens']:,} prompt ({row['cached_tokens']:,} cached), "
        f"{row['completion_tokens']:,} completion; {row['reserved_tokens']:,} reserved",
        "cost": _cost(row),
        "engine time": format_duration(row["engine_us"] / 1000),
        "user": row["user"],
        "feature": row["feature"],
        "tags": ", ".join(f"{name}={value}" for name, value in row["tags"].items()),
        "API key": row["api_key_id"],
        "run": row["run"],
        "trace": row["trace_id"],
        "event": row["event_id"],
    }
    return [(name, value) for name, value in facts.items() if value]


def _cost(row: Row) -> str:
    if row["unbilled_nano"]:
        return f"not billed: ${dollars(row['unbilled_nano'])} by price version {row['price_version']}"
    priced = f"price version {row['price_version']}" if row["price_version"] else "not billed"
    return f"${dollars(row['cost_nano'])}, {priced}"


def _model(row: Row) -> str:
    served = f"{row['model']} {row['model_version']}".strip() or "none"
    asked = f" (asked for {row['requested_model']})" if row["requested_model"] != row["model"] else ""
    return f"{served}{asked}{', router ' + row['router_version'] if row['router_version'] else ''}"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(start: datetime, end: datetime) -> int:
    return round((end - start).total_seconds() * 1000)
