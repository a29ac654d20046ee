"""Limits and their usage as people and programs read them."""

import re
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.errors import InvalidRequest
from contracts.limit_usage import AccountUsage, MeasureUsage
from contracts.limits import FIGURES, Limit, dollars, write_limits
from contracts.settings import Settings
from millrace.grid import Column, Grid, write_json

HEADINGS = {
    "tokens_per_minute": "tokens/min",
    "tokens_per_day": "tokens/day",
    "requests_per_minute": "requests/min",
    "concurrent_requests": "at once",
    "dollars_per_day": "$/day",
    "dollars_per_month": "$/month",
}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_COUNT = re.compile(r"(\d[\d_,]*(?:\.\d+)?)\s*([kmg]?)", re.IGNORECASE)
_BAR = 10  # characters


def parse_count(text: str) -> int | str:
    """`200_000`, `200k`, `1.5M`; other words go on to be judged. Raises InvalidRequest on a part of one."""
    found = _COUNT.fullmatch(text.strip())
    if not found:
        return text.strip()
    number = Decimal(re.sub("[_,]", "", found[1])) * _UNITS[found[2].lower()]
    if number != number.to_integral_value():
        raise InvalidRequest(f"{text} is no whole number.")
    return int(number)


def show_limits(limits: Sequence[Limit], settings: Settings, format_: Literal["table", "json", "toml"]) -> None:
    """What is set; a table says besides what holds where nothing is."""
    if format_ == "json":
        write_json([limit.model_dump(exclude_none=True) for limit in limits])
        return
    if format_ == "toml":
        sys.stdout.write(write_limits(limits))
        return
    console = Console(highlight=False)
    if limits:
        names = _names_used([limit.selector._asdict() for limit in limits])
        figures = [name for name in FIGURES if any(getattr(limit, name) is not None for limit in limits)]
        columns = [Column(name.replace("_", " ")) for name in names]
        columns += [Column(HEADINGS[name], numeric=True) for name in figures]
        console.print(Grid(columns, [_cells(limit, names, figures) for limit in limits]).table())
        console.print()
    console.print(
        f"Each tenant whose limits say nothing else: {settings.tokens_per_minute:,} tokens and "
        f"{settings.requests_per_minute:,} requests a minute (settings).",
        style="dim",
    )


def _cells(limit: Limit, names: Sequence[str], figures: Sequence[str]) -> list[str]:
    whose = [_name(getattr(limit, name)) for name in names]
    return whose + [_figure(name, getattr(limit, name)) for name in figures]


def _figure(name: str, figure: int | str | None) -> str:
    if figure is None:
        return ""
    if isinstance(figure, str):
        return figure
    return _money(figure) if name.startswith("dollars") else f"{figure:,}"


def show_usage(
    accounts: Sequence[AccountUsage], format_: Literal["table", "json"], *, rows: int, complete: bool
) -> None:
    """At most so many rows in a table; JSON has all."""
    if format_ == "json":
        write_json([account.model_dump(exclude_none=True) for account in accounts])
        return
    console = Console(highlight=False)
    if not accounts:
        console.print("Nothing is used.")
        return
    console.print(_usage_table(accounts[:rows]))
    if len(accounts) > rows or not complete:
        more = f"… and {len(accounts) - rows:,} more" if len(accounts) > rows else "… and others"
        console.print(f"{more} that are further from their limits (--rows, --tenant, --format json)", style="dim")


def _usage_table(accounts: Sequence[AccountUsage]) -> Table:
    """A line for each measure that is limited, or used; whose it is stands at the first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("whose", overflow="fold")
    table.add_column("limit", no_wrap=True)
    for heading in ("used", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("back in", justify="right", no_wrap=True)
    for account in accounts:
        whose = _whose(account)
        for name in FIGURES:
            measure = account.measures.get(name)
            if measure and (measure.limit is not None or measure.used):
                table.add_row(whose, *_usage_cells(name, measure))
                whose = ""
    return table


def _whose(account: AccountUsage) -> str:
    parts = [("user", account.user), ("feature", account.feature), ("API key", account.api_key)]
    return ", ".join([account.tenant, *(f"{kind} {_name(name)}" for kind, name in parts if name is not None)])


def _usage_cells(name: str, measure: MeasureUsage) -> list[Text]:
    show = _money if name.startswith("dollars") else _short
    used, heading = Text(show(measure.used)), Text(HEADINGS[name])
    if measure.limit is None:
        cells = [heading, used, Text("–"), Text(""), Text("")]
        for cell in cells:
            cell.stylize("dim")
        return cells
    used.stylize(_style(measure.share))
    back = Text(duration(measure.reset_ms) if measure.reset_ms else "", style="dim")
    return [heading, used, Text(show(measure.limit)), bar(measure.share), back]


def bar(share: float) -> Text:
    full = min(_BAR, round(share * _BAR))
    return Text.assemble(("━" * full, _style(share) or "green"), ("━" * (_BAR - full), "dim"), f" {share:4.0%}")


def _style(share: float) -> str:
    return "red" if share >= 1 else "yellow" if share >= 0.8 else ""


def duration(ms: int) -> str:
    """The two largest units, and no less than a second: 23 h 59 min."""
    left, parts = -(-ms // 1000), []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2])


def _names_used(rows: Sequence[dict[str, str | None]]) -> list[str]:
    return [name for name in ("tenant", "user", "feature", "api_key") if any(row[name] is not None for row in rows)]


def _name(name: str | None) -> str:
    if name is None:
        return ""
    return {"*": "each", "": "none"}.get(name, name)


def _money(nano: int) -> str:
    """To the cent where that is exact, or four decimals; a little is never shown as nothing."""
    exact = dollars(nano)
    if len(exact.partition(".")[2]) <= 4:
        return f"${exact}"
    return f"${max(nano, 10**5) / 10**9:.4f}"


def _short(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 10 * size or (count >= size and not count % (size // 100)):
            return f"{count / size:.2f}".rstrip("0").rstrip(".") + unit
    return f"{count:,}"
