"""The cost report as people and programs read it."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from analytics.reports import CostLine, CostReport, dollars, total
from millrace.grid import Column, Grid
from millrace.rows_file import ExportFormat, write_rows
from millrace.times import format_moment

MEASURES = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_nano", "cost_dollars")
APART = ("waste_runs", "waste_tokens", "waste_engine_us", "adjusted_nano", "credited_nano")
_HEADINGS = ("requests", "prompt", "cached", "completion", "cost")
_SHORT_HEADINGS = ("reqs", "in", "cached", "out", "cost")


def show_cost(
    report: CostReport, lines: Sequence[CostLine], format_: ExportFormat, *, rows: int, output: Path | None = None
) -> None:
    """A table of at most `rows` groups (its totals are over all); the other formats have every one."""
    if format_ == "table" and output is None:
        _table(report, lines, rows)
    else:
        write_rows((*report.by, *MEASURES, *APART), [_record(report.by, line) for line in lines], format_, output)


def _record(by: Sequence[str], line: CostLine) -> dict[str, Any]:
    values = {name: getattr(line, name) for name in (*MEASURES[:-1], *APART)}
    values["cost_dollars"] = dollars(line.cost_nano)
    groups = {name: _utc(value) for name, value in zip(by, line.group, strict=True)}
    return groups | {name: values[name] for name in (*MEASURES, *APART)}


def _utc(value: str | date) -> str | date:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _table(report: CostReport, lines: Sequence[CostLine], rows: int) -> None:
    console = Console()
    sums = total(lines)
    if sums == CostLine(()):
        console.print(f"No requests in the ledger{_period(report)}.")
        return
    digits = decimals([n for line in (*lines, sums) for n in (line.cost_nano, line.adjusted_nano, line.credited_nano)])
    exact = _grid(report.by, lines[:rows], sums, digits, compact=False)
    grid = exact if exact.fits(console) else _grid(report.by, lines[:rows], sums, digits, compact=True)
    console.print(f"Cost{' by ' + ', '.join(report.by) if report.by else ''}{_period(report)}", style="dim")
    console.print(grid.table())
    if len(lines) > rows:
        console.print(f"… and {len(lines) - rows:,} more groups, which the totals include (--rows, --format csv)")
    if sums.waste_runs:
        console.print(
            f"Waste, never billed: {sums.waste_runs:,} runs, {sums.waste_tokens:,} tokens, "
            f"{sums.waste_engine_us / 1e6:,.1f} s of engine"
        )

    parts = [(sums.adjusted_nano, "by other prices"), (sums.credited_nano, "by credits")]
    if told := [f"{money(nano, digits)} {why}" for nano, why in parts if nano]:
        console.print(f"In the cost: {', '.join(told)}")


def _grid(by: Sequence[str], lines: Sequence[CostLine], sums: CostLine, digits: int, *, compact: bool) -> Grid:
    headings = _SHORT_HEADINGS if compact else _HEADINGS
    columns = [Column(name) for name in by] + [Column(name, numeric=True) for name in headings]
    rows = [[*map(_cell, line.group), *_numbers(line, digits, compact=compact)] for line in lines]
    label = ["total", *[""] * (len(by) - 1)] if by else []
    return Grid(columns, rows, [*label, *_numbers(sums, digits, compact=compact)] if by else (), fold=False)


def _cell(value: str | date) -> str:
    if isinstance(value, datetime):
        return format_moment(value)
    return str(value) or "–"


def _numbers(line: CostLine, digits: int, *, compact: bool) -> list[str]:
    tokens = (line.prompt_tokens, line.cached_tokens, line.completion_tokens)
    show = _short if compact else "{:,}".format
    return [f"{line.requests:,}", *map(show, tokens), money(line.cost_nano, digits)]


def money(nano: int, digits: int = 9) -> str:
    """`$1,234.50`, `-$0.01`."""
    whole, _, rest = dollars(abs(nano), digits).partition(".")
    return f"{'-' if nano < 0 else ''}${int(whole):,}.{rest}"


def _short(count: int) -> str:
    """12,345 → 12.3k; a thousand or less in full."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.{1 if count < 100 * size else 0}f}{unit}"
    return str(count)


def decimals(costs: Sequence[int]) -> int:
    """As many decimals as the longest cost has, and cents at least: every figure is exact."""
    return max(2, *(len(f"{abs(cost) % 10**9:09d}".rstrip("0")) for cost in costs))


def _period(report: CostReport) -> str:
    since = f" since {format_moment(report.since)} UTC" if report.since else ""
    until = f" until {format_moment(report.until)} UTC" if report.until else ""
    return since + until
