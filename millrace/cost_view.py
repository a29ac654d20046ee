"""The cost report as people and programs read it."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from rich.console import Console

from analytics.reports import CostLine, CostReport, dollars, total
from millrace.grid import Column, Grid, GridFormat, write_csv, write_json
from millrace.times import format_moment

MEASURES = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_nano", "cost_dollars")
WASTE = ("waste_runs", "waste_tokens", "waste_engine_us")
_HEADINGS = ("requests", "prompt", "cached", "completion", "cost")
_SHORT_HEADINGS = ("reqs", "in", "cached", "out", "cost")


def show_cost(report: CostReport, lines: Sequence[CostLine], format_: GridFormat, *, rows: int) -> None:
    """A table of at most `rows` groups (its totals are over all); JSON and CSV have every one."""
    if format_ == "table":
        _table(report, lines, rows)
    elif format_ == "json":
        write_json([_record(report.by, line) for line in lines])
    else:
        write_csv((*report.by, *MEASURES, *WASTE), [_record(report.by, line) for line in lines])


def _record(by: Sequence[str], line: CostLine) -> dict[str, Any]:
    values = {name: getattr(line, name) for name in (*MEASURES[:-1], *WASTE)}
    values["cost_dollars"] = dollars(line.cost_nano)
    groups = {name: _plain(value) for name, value in zip(by, line.group, strict=True)}
    return groups | {name: values[name] for name in (*MEASURES, *WASTE)}


def _plain(value: str | date) -> str:
    return value if isinstance(value, str) else value.isoformat()


def _table(report: CostReport, lines: Sequence[CostLine], rows: int) -> None:
    console = Console()
    sums = total(lines)
    if not sums.requests and not sums.waste_runs:
        console.print(f"No requests in the ledger{_period(report)}.")
        return
    digits = _digits([line.cost_nano for line in (*lines, sums)])
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


def _grid(by: Sequence[str], lines: Sequence[CostLine], sums: CostLine, digits: int, *, compact: bool) -> Grid:
    headings = _SHORT_HEADINGS if compact else _HEADINGS
    columns = [Column(name) for name in by] + [Column(name, numeric=True) for name in headings]
    rows = [[*map(_cell, line.group), *_numbers(line, digits, compact=compact)] for line in lines]
    label = ["total", *[""] * (len(by) - 1)] if by else []
    return Grid(columns, rows, [*label, *_numbers(sums, digits, compact=compact)] if by else (), fold=False)


def _cell(value: str | date) -> str:
    if isinstance(value, datetime):
        return format_moment(value)
    return _plain(value) or "–"


def _numbers(line: CostLine, digits: int, *, compact: bool) -> list[str]:
    tokens = (line.prompt_tokens, line.cached_tokens, line.completion_tokens)
    show = _short if compact else "{:,}".format
    whole, _, rest = dollars(line.cost_nano, digits).partition(".")
    return [f"{line.requests:,}", *map(show, tokens), f"${int(whole):,}.{rest}"]


def _short(count: int) -> str:
    """12,345 → 12.3k; a thousand or less in full."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.{1 if count < 100 * size else 0}f}{unit}"
    return str(count)


def _digits(costs: Sequence[int]) -> int:
    """As many decimals as the longest cost has, and cents at least: every figure is exact."""
    return max(2, *(len(f"{abs(cost) % 10**9:09d}".rstrip("0")) for cost in costs))


def _period(report: CostReport) -> str:
    since = f" since {format_moment(report.since)} UTC" if report.since else ""
    until = f" until {format_moment(report.until)} UTC" if report.until else ""
    return since + until
