"""How true the told waits are: estimated against real start, at a steady and a bursty load: `python -m bench.waits`."""

import asyncio
import random
from functools import partial
from typing import Any

from bench.kafka_load import OUTPUT_TOKENS, REQUESTS_PER_SECOND, Ended, KafkaLoad, kafka_load
from bench.results import publish
from millrace.replay.report import percentile

SHORT_MS = 500  # a wait below this is told as none: its error is only given in milliseconds
BURST = 200  # requests at once
BURSTS = 4
BURST_SECONDS = 14.0  # from one to the next: as long as one takes, and a little


async def waits(seconds: float = 45.0) -> None:
    rows: list[dict[str, Any]] = []
    async with kafka_load() as load:
        for name, play in (("warm-up", _warm_up), ("steady, 1.25x", partial(_steady, seconds)), ("bursts", _bursts)):
            known = len(load.ended)
            await play(load)
            await load.until(lambda: len(load.ended) >= load.asked, 300)
            rows.append({"load": name} | _errors(load.ended[known:]))
    publish("waits", "Estimated start, as told when a request is let through, against its real start", rows[1:])


async def _warm_up(load: KafkaLoad) -> None:
    """A full engine for some seconds: before the first one nobody knows its pace."""
    await load.at_once(BURST, partial(load.ask, "warm"))


async def _steady(seconds: float, load: KafkaLoad) -> None:
    """A little more than the engine can do, of two tenants, so that the queue grows and then drains."""
    chance = random.Random(2)

    async def ask() -> None:
        await load.ask(chance.choice(("acme", "globex")), output_tokens=_length(chance))

    await load.steadily(1.25 * REQUESTS_PER_SECOND, seconds, ask)


async def _bursts(load: KafkaLoad) -> None:
    """All at once onto an idle engine, again and again."""
    chance = random.Random(3)
    for _ in range(BURSTS):
        next_one = asyncio.create_task(asyncio.sleep(BURST_SECONDS))
        for _ in range(BURST):
            await load.ask("acme", output_tokens=_length(chance))
        await next_one


def _length(chance: random.Random) -> int:
    return chance.randint(OUTPUT_TOKENS // 2, OUTPUT_TOKENS * 3 // 2)


def _errors(ended: list[Ended]) -> dict[str, Any]:
    """Relative to the real wait, from acceptance to start. Of requests that come in the same instant it is chance which
    ones an idle engine takes first: some that were told none wait for a whole round."""
    waited, shares, of_told, short = [], [], [], []
    for end in ended:
        began = end.completion.started_at
        if began is None or end.estimated_start is None:
            continue
        wait, error = began - end.request.accepted_at, abs(end.estimated_start - began)
        if wait < SHORT_MS:
            short.append(float(error))
            continue
        waited.append(wait / 1000)
        shares.append(error / wait)
        if end.estimated_start - end.request.accepted_at >= SHORT_MS:
            of_told.append(error / wait)
    return {
        "requests": len(ended),
        "told": len(shares) + len(short),
        "waited": len(shares),
        "told none": len(shares) - len(of_told),
        "mean wait s": sum(waited) / max(len(waited), 1),
        "error p50": percentile(shares, 0.5),
        "error p90": percentile(shares, 0.9),
        "p90 if told a wait": percentile(of_told, 0.9),
        "short waits, error p90 ms": percentile(short, 0.9),
    }


if __name__ == "__main__":
    asyncio.run(waits())
