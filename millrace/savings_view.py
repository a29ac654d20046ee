"""What was saved, as people and programs read it."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console

from analytics.savings import Savings, SavingsReport
from millrace.cost_view import decimals, money
from millrace.grid import Column, Grid
from millrace.rows_file import ExportFormat, write_rows
from millrace.times import format_moment

_COLUMNS = tuple(field.name for field in fields(Savings))


def show_savings(report: SavingsReport, lines: Sequence[Savings], format_: ExportFormat, output: Path | None) -> None:
    if format_ == "table" and output is None:
        _table(report, lines)
    else:
        write_rows(_COLUMNS, [asdict(line) for line in lines], format_, output)


def _table(report: SavingsReport, lines: Sequence[Savings]) -> None:
    console = Console()
    period = f"from {format_moment(report.since)} to {format_moment(report.until)} UTC"
    if not lines:
        console.print(f"No requests in the ledger {period}.")
        return
    whole = Savings("total", *(sum(getattr(line, name) for line in lines) for name in _COLUMNS[1:]))
    digits = decimals([n for line in (*lines, whole) for n in _sums(line)])
    headings = ("requests", "by cache", "by routing", "by duplicates", "wasted")
    columns = [Column("tenant"), *(Column(name, numeric=True) for name in headings)]
    console.print(f"Saved {period}, at prices {report.prices.version}", style="dim")
    console.print(Grid(columns, [_cells(line, digits) for line in lines], _cells(whole, digits), fold=False).table())
    console.print(
        f"Cache: {whole.cached_tokens:,} tokens at their lower price. Routing: {whole.routed_requests:,} requests that "
        f"{report.large} would have served. Duplicates: {whole.duplicates:,} answered without a run. "
        f"Wasted: {whole.waste_runs:,} second runs after crashes, billed to nobody."
    )


def _cells(line: Savings, digits: int) -> list[str]:
    return [line.tenant, f"{line.requests:,}", *(money(nano, digits) for nano in _sums(line))]


def _sums(line: Savings) -> tuple[int, int, int, int]:
    return line.cache_nano, line.routing_nano, line.duplicate_nano, line.waste_nano
