"""`make chaos`: kills everything, again and again, under load; then counts from outside. Exit status 1 unless the
promise held, and every fault happened. The table is also written to bench/results/chaos.md."""

import asyncio
import logging
import random
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.chaos import campaign
from tests.chaos.faults import FAULTS
from tests.chaos.report import holds, markdown, render
from tests.chaos.rig import ROOT

_TABLE = ROOT / "bench" / "results" / "chaos.md"


def main(
    minutes: Annotated[float, typer.Option(min=0, help="How long faults happen.")] = 20,
    seed: Annotated[int | None, typer.Option(help="Replays that seed's order of faults; a random one else.")] = None,
    faults: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(FAULTS)}; all when empty.")] = "",
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")] = 6.0,
    brokers: Annotated[int, typer.Option(help="Nodes of Kafka: 1, or 3 with replication 3 and min ISR 2.")] = 1,
    keep: Annotated[Path | None, typer.Option(help="Keep data and logs in this folder.")] = None,
) -> None:
    """The kill matrix."""
    names = [name for name in faults.split(",") if name] or list(FAULTS)
    if unknown := set(names) - FAULTS.keys():
        raise typer.BadParameter(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    seed = random.randrange(10_000) if seed is None else seed
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # connections do break here
    console = Console(width=160)
    console.print(f"seed {seed}: replay it with --seed {seed}")
    with tempfile.TemporaryDirectory(prefix="millrace-chaos-") as folder:
        outcome = asyncio.run(
            campaign.run(
                keep or Path(folder),
                seed=seed,
                names=names,
                seconds=minutes * 60,
                per_second=rate,
                brokers=3 if brokers == 3 else 1,
                say=lambda line: console.print(line, markup=False, highlight=False),
            )
        )
    console.print(render(outcome))
    _TABLE.parent.mkdir(parents=True, exist_ok=True)
    _TABLE.write_text(markdown(outcome))
    console.print(f"seed {seed}: {'the promise held' if holds(outcome) else 'THE PROMISE DID NOT HOLD'}")
    raise typer.Exit(code=0 if holds(outcome) else 1)


if __name__ == "__main__":
    typer.run(main)
