"""A rebuilt ledger beside the old one, as people and programs read it."""

import sys
from dataclasses import asdict
from typing import Literal

import orjson
from rich.console import Console

from analytics.rebuild import Rebuilt
from millrace.reconcile_view import sums_grid


def show_rebuilt(rebuilt: Rebuilt, newer: int | None, format_: Literal["table", "json"]) -> None:
    """`newer`: rows that came since and were taken over by the swap; None when nothing was swapped."""
    if format_ == "json":
        found = asdict(rebuilt) | {
            "equal": not rebuilt.unequal,
            "unequal": rebuilt.unequal,
            "swapped": newer is not None,
        }
        sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode() + "\n")
        return
    console = Console(highlight=False)
    console.print(f"{rebuilt.read:,} events read from Kafka's first offset", style="dim")
    if rebuilt.kept:
        console.print(f"{rebuilt.kept:,} rows are older than that, and were taken over as they are", style="dim")
    for refusal in rebuilt.refused:
        console.print(f"refused: {refusal}", style="red")
    sides = [{name: side.sums for name, side in table.items()} for table in (rebuilt.rebuilt, rebuilt.usage)]
    console.print()
    console.print(sums_grid(console, sides[0], sides[1], rebuilt.unequal).table())
    console.print()
    _conclude(console, rebuilt, newer)


def _conclude(console: Console, rebuilt: Rebuilt, newer: int | None) -> None:
    if not rebuilt.unequal:
        console.print("The rebuilt table holds the same rows as usage, to the nano-dollar.", style="bold green")
    else:
        console.print(f"The tables differ for {len(rebuilt.unequal):,} tenants.", style="bold red")
    if newer is not None:
        console.print(f"Swapped, with {newer:,} rows that came meanwhile; the old table is usage_before.")
    elif rebuilt.unequal:
        console.print("`millrace reconcile` names the rows; --swap puts the rebuilt table in place.")
