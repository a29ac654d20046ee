"""The differences that other prices make, as people and programs read them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from analytics.clickhouse import Client
from analytics.reports import dollars
from analytics.reprice import Difference, Repricing
from contracts.settings import Settings
from contracts.usage import UsageEvent
from millrace.corrections import publish, until_stored
from millrace.cost_view import decimals, money
from millrace.grid import Column, Grid
from millrace.rows_file import ExportFormat, write_rows
from millrace.times import format_moment

_COLUMNS = ("tenant", "requests", "unpriced", "cost_nano", "new_nano", "difference_nano", "difference_dollars")


def show_differences(
    repricing: Repricing, lines: Sequence[Difference], format_: ExportFormat, output: Path | None
) -> None:
    if format_ == "table" and output is None:
        _table(repricing, lines)
        return
    rows = [
        {name: getattr(line, name) for name in _COLUMNS[:-1]} | {_COLUMNS[-1]: dollars(line.difference_nano)}
        for line in lines
    ]
    write_rows(_COLUMNS, rows, format_, output)


def _table(repricing: Repricing, lines: Sequence[Difference]) -> None:
    console = Console()
    period = f"from {format_moment(repricing.since)} to {format_moment(repricing.until)} UTC"
    if not lines:
        console.print(f"No requests in the ledger {period}.")
        return
    whole = Difference("total", *(sum(getattr(line, name) for line in lines) for name in _COLUMNS[1:5]))
    figures = [n for line in (*lines, whole) for n in (line.cost_nano, line.new_nano, line.difference_nano)]
    digits = decimals(figures)
    headings = ("requests", "cost now", f"by {repricing.prices.version}", "difference")
    columns = [Column("tenant"), *(Column(name, numeric=True) for name in headings)]
    console.print(f"Prices {repricing.prices.version}, {period}", style="dim")
    console.print(Grid(columns, [_cells(line, digits) for line in lines], _cells(whole, digits), fold=False).table())
    if whole.unpriced:
        console.print(f"{whole.unpriced:,} requests keep their cost: the table has no price for their models.")


def _cells(line: Difference, digits: int) -> list[str]:
    sums = (line.cost_nano, line.new_nano, line.difference_nano)
    return [line.tenant, f"{line.requests:,}", *(money(nano, digits) for nano in sums)]


async def commit_adjustments(settings: Settings, client: Client, events: Iterable[UsageEvent]) -> None:
    """Raises StackError."""
    count = _Count(events)
    sent = await publish(settings, count)
    stored = await until_stored(client, sent)
    where = "in the ledger" if stored else "in Kafka, and not all in the ledger yet"
    Console(stderr=True).print(f"{count.seen:,} adjustments are {where}." if count.seen else "Nothing to adjust.")


class _Count:
    def __init__(self, events: Iterable[UsageEvent]) -> None:
        self._events = events
        self.seen = 0

    def __iter__(self) -> Iterator[UsageEvent]:
        for event in self._events:
            self.seen += 1
            yield event
