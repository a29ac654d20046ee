"""Margins, as people and programs read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from analytics.margin import GpuTime, Margin, MarginLine, MarginReport, Part
from millrace.cost_view import decimals, money
from millrace.grid import Column, Grid
from millrace.rows_file import ExportFormat, write_rows
from millrace.times import format_moment

_COLUMNS = ("tenant", "model", "part", "requests", "billed_nano", "gpu_nano", "margin_nano")
_HOUR_US = 3_600_000_000


def show_margin(report: MarginReport, margin: Margin, format_: ExportFormat, output: Path | None) -> None:
    """As a table to cents; the other formats are exact."""
    if format_ == "table" and output is None:
        _table(report, margin)
    else:
        write_rows(_COLUMNS, [_record(line) for line in margin.lines], format_, output)


def _record(line: MarginLine) -> dict[str, Any]:
    return {name: getattr(line, name) for name in _COLUMNS[:2]} | {
        "part": line.part.value,
        **{name: getattr(line, name) for name in _COLUMNS[3:]},
    }


def _table(report: MarginReport, margin: Margin) -> None:
    console = Console()
    period = f"from {format_moment(report.since)} to {format_moment(report.until)} UTC"
    if not margin.lines:
        console.print(f"Nothing was billed and no engine has told of its time {period}.")
        return
    whole = _sum(margin.lines)
    digits = decimals([n for line in (*margin.lines, whole) for n in (line.billed_nano, line.gpu_nano)])
    columns = [Column("tenant"), Column("model"), Column("what")]
    columns += [Column(name, numeric=True) for name in ("count", "billed", "GPUs", "margin", "%")]
    console.print(f"Billed beside what GPUs cost, {period}", style="dim")
    rows = [_cells(line, digits) for line in margin.lines]
    console.print(Grid(columns, rows, ["total", "", "", *_cells(whole, digits)[3:]], fold=False).table())
    for gpu in margin.gpus:
        console.print(_sentence(gpu, digits))
    if margin.gpus and not any(gpu.gpu_nano for gpu in margin.gpus):
        console.print("No GPU has a price: set MILLRACE_GPU_HOUR_DOLLARS, or gpu_hour in routes.toml.")


def _sum(lines: Sequence[MarginLine]) -> MarginLine:
    requests = sum(line.requests for line in lines if line.part is Part.REQUESTS)
    billed, gpu = sum(line.billed_nano for line in lines), sum(line.gpu_nano for line in lines)
    return MarginLine("", "", Part.REQUESTS, requests, billed, gpu)


def _cells(line: MarginLine, digits: int) -> list[str]:
    share = f"{100 * line.margin_nano / line.billed_nano:,.0f}" if line.billed_nano > 0 else "–"
    count = f"{line.requests:,}" if line.requests else ""
    amounts = (line.billed_nano, line.gpu_nano, line.margin_nano)
    return [line.tenant or "–", line.model or "–", line.part.value, count, *(money(n, digits) for n in amounts), share]


def _sentence(gpu: GpuTime, digits: int) -> str:
    told = f"{gpu.model}: {gpu.gpu_us / _HOUR_US:,.3f} GPU-hours, {money(gpu.gpu_nano, digits)}"
    if not gpu.killed_workers:
        return f"{told}."
    return (
        f"{told}; unaccounted: {gpu.killed_workers:,} killed workers, at most {gpu.untold_us / 1e6:,.0f} GPU-seconds "
        f"({money(gpu.untold_nano)}) more."
    )
