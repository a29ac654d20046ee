"""Reconcile's report as people and programs read it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from rich.console import Console
from rich.text import Text

from analytics.reconcile.claims import Verdict
from analytics.reconcile.report import EXPLAINED, Claimed, Report, Stored, Sums, total
from analytics.repair import Repaired
from analytics.reports import dollars
from contracts.outcomes import Outcome
from millrace.grid import Column, Grid
from millrace.times import format_moment

Sides = Mapping[str, Sums]  # by tenant


def show_report(
    report: Report, format_: Literal["table", "json"], *, rows: int = 20, repaired: Repaired | None = None
) -> None:
    """A table names at most `rows` findings; JSON has every one that the report has."""
    if format_ == "json":
        found = as_record(report) | ({"repaired": repaired._asdict()} if repaired else {})
        sys.stdout.write(
            orjson.dumps(found, default=list, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode() + "\n"
        )
        return
    console = Console(highlight=False)
    _heading(console, report, repaired)
    _claims(console, "tenant", report.tenants)
    _claims(console, "requests", report.partitions)
    _section(console, Grid(_STORED, [_stored(line) for line in report.usage if line.records or line.on_the_way]))
    _section(console, sums_grid(console, report.kafka, report.ledger, report.unequal))
    _findings(console, report, rows)
    _conclusion(console, report)


def as_record(report: Report) -> dict[str, Any]:
    """For programs: plain numbers and text, times in ISO 8601."""
    return {
        "clean": report.clean,
        "since": _iso(report.since),
        "until": _iso(report.until),
        "tenants": [_claimed_record("tenant", line) for line in report.tenants],
        "partitions": [_claimed_record("partition", line) for line in report.partitions],
        "usage": [asdict(line) for line in report.usage],
        "sums": [
            {"tenant": name, "kafka": asdict(_of(report.kafka, name)), "clickhouse": asdict(_of(report.ledger, name))}
            for name in sorted({*report.kafka, *report.ledger})
        ],
        "faults": {fault.value: count for fault, count in report.faults.items()},
        "findings": [asdict(finding) | {"request": finding.request} for finding in report.findings],
        "notes": list(report.notes),
        "records_read": report.records_read,
        "seconds": round(report.seconds, 3),
    }


def _claimed_record(name: str, line: Claimed) -> dict[str, Any]:
    return {
        name: line.name,
        "accepted": line.claims,
        "outcomes": {outcome.value: count for outcome, count in line.outcomes.items()},
        "usage": line.billed,
        "verdicts": {verdict.value: count for verdict, count in line.verdicts.items()},
    }


def _heading(console: Console, report: Report, repaired: Repaired | None) -> None:
    if repaired:
        console.print(
            f"Repaired: {repaired.read:,} events read from Kafka again and put into ClickHouse.", style="bold"
        )
        for refusal in repaired.refused:
            console.print(f"  refused: {refusal}", style="red")
    since, until = (format_moment(datetime.fromtimestamp(ms // 1000, UTC)) for ms in (report.since, report.until))
    read = f"{report.records_read:,} records read in {report.seconds:.1f} s"
    console.print(f"{since} to {until} UTC\n{read}", style="dim")


def _claims(console: Console, heading: str, lines: Sequence[Claimed]) -> None:
    """Every outcome has its column; on a narrow terminal they are one."""
    lines = [line for line in lines if line.claims]
    if not lines:
        return
    kinds = [outcome for outcome in Outcome if any(line.outcomes.get(outcome) for line in lines)]
    wide = _claims_grid(heading, lines, kinds)
    _section(console, wide if wide.fits(console) else _claims_grid(heading, lines, []))


def _claims_grid(heading: str, lines: Sequence[Claimed], kinds: Sequence[Outcome]) -> Grid:
    outcomes = [kind.value.replace("_", " ") for kind in kinds] or ["outcomes"]
    names = ["accepted", *outcomes, "usage", "in flight", "superseded", "off"]
    cells = [[line.name, *map(_number, _counts(line, kinds))] for line in lines]
    sums = [sum(column) for column in zip(*(_counts(line, kinds) for line in lines), strict=True)]
    columns = [Column(heading), *(Column(name, numeric=True) for name in names)]
    return Grid(columns, cells, ["total", *map(_number, sums)], fold=False)


def _counts(line: Claimed, kinds: Sequence[Outcome]) -> list[int]:
    outcomes = [line.outcomes.get(kind, 0) for kind in kinds] or [line.ended]
    return [line.claims, *outcomes, line.billed, line[Verdict.IN_FLIGHT], line[Verdict.SUPERSEDED], line.off]


_STORED = [
    Column("usage"),
    Column("offsets"),
    *(Column(name, numeric=True) for name in ("records", "stored", "repeats", "on the way", "missing", "doubled")),
]


def _stored(line: Stored) -> list[str]:
    missing = sum(last - first + 1 for first, last in line.missing)
    counts = (line.records, line.rows, line.duplicates, line.on_the_way, missing, len(line.doubled))
    offsets = f"{line.first}–{line.end - 1}" if line.end > line.first else "–"
    return [str(line.partition), offsets, *map(_number, counts)]


def sums_grid(console: Console, kafka: Sides, ledger: Sides, unequal: Sequence[str]) -> Grid:
    """One line a tenant where both sides agree; both, where they don't. On a narrow terminal tokens are one column."""
    wide = _sums_grid(kafka, ledger, unequal, _ALL)
    return wide if wide.fits(console) else _sums_grid(kafka, ledger, unequal, _SHORT)


_ALL: dict[str, Callable[[Sums], int]] = {
    "events": lambda sums: sums.events,
    "waste": lambda sums: sums.waste,
    "prompt": lambda sums: sums.prompt_tokens,
    "cached": lambda sums: sums.cached_tokens,
    "completion": lambda sums: sums.completion_tokens,
}
_SHORT: dict[str, Callable[[Sums], int]] = {
    "events": lambda sums: sums.events,
    "tokens": lambda sums: sums.prompt_tokens + sums.completion_tokens,
}


def _sums_grid(
    kafka: Sides, ledger: Sides, unequal: Sequence[str], figures: Mapping[str, Callable[[Sums], int]]
) -> Grid:
    def line(name: str, side: str, sums: Sums) -> list[str]:
        return [name, side, *(_number(of(sums)) for of in figures.values()), f"${dollars(sums.cost_nano)}"]

    cells: list[list[str]] = []
    for name in sorted({*kafka, *ledger}):
        if name in unequal:
            cells += [line(name, "Kafka", _of(kafka, name)), line("", "ClickHouse", _of(ledger, name))]
        else:
            cells.append(line(name, "both", kafka[name]))
    whole, stored = total(kafka), total(ledger)
    if whole != stored:
        cells.append(line("all", "Kafka", whole))
    columns = [Column("tenant"), Column("in"), *(Column(name, numeric=True) for name in (*figures, "cost"))]
    return Grid(columns, cells, line("total", "ClickHouse" if whole != stored else "both", stored), fold=False)


def _findings(console: Console, report: Report, most: int) -> None:
    if not report.faults:
        return
    console.print()
    for fault, count in sorted(report.faults.items()):
        console.print(Text.assemble((f"{count:,} {fault.value}", "bold red"), f": {EXPLAINED[fault]}"))
        shown = [finding for finding in report.findings if finding.fault is fault][:most]
        for finding in shown:
            console.print(Text.assemble("  ", (finding.request, "bold"), ("  at ", "dim"), finding.place))
        if count > len(shown):
            console.print(f"  … and {count - len(shown):,} more (--rows, --format json)", style="dim")


def _conclusion(console: Console, report: Report) -> None:
    console.print()
    for note in report.notes:
        console.print(note, style="yellow")
    if report.clean and not any(line.claims for line in report.tenants) and not report.kafka:
        console.print("Nothing was accepted, and nothing billed.")
        return
    if report.clean:
        console.print("Accepted once, answered once, billed once: nothing is off.", style="bold green")
        return
    sums = f"; sums differ for {_counted(len(report.unequal), 'tenant')}" if report.unequal else ""
    console.print(f"{_counted(sum(report.faults.values()), 'fault')}{sums}.", style="bold red")
    if report.missing:
        console.print("--repair reads what is missing from Kafka again.")


def _section(console: Console, grid: Grid) -> None:
    if grid.rows:
        console.print()
        console.print(grid.table())


def _of(sums: Mapping[str, Sums], name: str) -> Sums:
    return sums.get(name, Sums())


def _number(count: int) -> str:
    return f"{count:,}" if count else "–"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _iso(utc_ms: int) -> str:
    return datetime.fromtimestamp(utc_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
