"""Rows on the terminal: as a table that fits its width, or as JSON."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells as text, ready to show; numbers stand to the right, the totals apart from the rest."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    totals: Sequence[str] = ()
    fold: bool = True  # a text too long for its column goes on below; else it is cut

    def table(self) -> Table:
        table = Table(
            box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_footer=bool(self.totals)
        )
        for number, column in enumerate(self.columns):
            cells = [column.name, footer := self.totals[number] if self.totals else "", *(r[number] for r in self.rows)]
            table.add_column(
                column.name,
                footer,
                footer_style="bold",
                justify="right" if column.numeric else "left",
                min_width=max(map(len, cells)) if column.numeric else None,  # a number is never cut
                no_wrap=column.numeric,
                overflow="fold" if self.fold else "ellipsis",
            )
        for row in self.rows:
            table.add_row(*row)
        return table

    def fits(self, console: Console) -> bool:
        return Measurement.get(console, console.options.update(width=10_000), self.table()).maximum <= console.width


def write_json(rows: Sequence[Mapping[str, Any]]) -> None:
    """One array."""
    sys.stdout.write(orjson.dumps(list(rows), option=orjson.OPT_INDENT_2, default=str).decode() + "\n")
