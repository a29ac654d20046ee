"""CPU of the meter's two decisions, by how many limits a request comes under: admitting it, and settling what it used.

In memory, without Kafka and RocksDB: what the rules cost, and nothing else.
"""

import asyncio
import gc
import time
from itertools import islice
from typing import Any

from bench.results import publish
from contracts.bodies import describe
from contracts.catalogue import load_catalogue
from contracts.completion import Completion
from contracts.limits import Limit
from contracts.outcomes import Outcome
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.topics import Topics
from streams.limits.policy import default_policy
from streams.meter import meter
from streams.records import Output, Record
from streams.settle import settle
from streams.stage import Batch, House, Stage
from streams.tally import tally

REQUESTS = 5_000
BATCH = 100
USERS = 500
START = 1_790_000_000_000  # UTC ms
CASES = {
    "the defaults": [],
    "a budget of the tenant": [Limit(tenant="acme", dollars_per_month="1000", concurrent_requests=100_000)],
    "tokens a day of each user": [Limit(user="*", tokens_per_day=1_000_000)],
    "user, feature and API key": [
        Limit(user="*", tokens_per_day=1_000_000, requests_per_minute=10_000),
        Limit(feature="*", dollars_per_day="1000"),
        Limit(tenant="acme", api_key="key-1", tokens_per_minute=900_000_000),
    ],
}
BODY = b'{"model":"small","max_tokens":16,"messages":[{"role":"user","content":"Where is my order?"}]}'


class Memory:
    """One partition of a table."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = value

    def scan(self, start: bytes, stop: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """Without an order: RocksDB has its entries in order, and a dict isn't what is measured."""
        return [*islice(((key, value) for key, value in self.entries.items() if start <= key < stop), most)]


async def main() -> None:
    settings = Settings(tokens_per_minute=1_000_000_000)
    rows = []
    for name, limits in CASES.items():
        policy = default_policy(settings)
        policy.apply((limit.selector.encode(), limit.encode()) for limit in limits)
        rows.append(_measure(name, House(settings, Topics.of(settings), load_catalogue(), load_prices(), policy)))
    await asyncio.to_thread(publish, "meter", "One request's decisions, CPU microseconds", rows)


def _measure(name: str, house: House) -> dict[str, Any]:
    state = Memory()
    admitted, used = _requests(), list[Record]()
    seconds, outputs = _run(meter(house), state, admitted)
    ending = settle(house).open(Memory())
    for offset, output in enumerate(outputs):
        assert output.topic.startswith("work."), output
        used.append(_usage(ending, output, offset))
    settling, _ = _run(tally(house), state, used)
    return {
        "limits": name,
        "admit": 1e6 * seconds / REQUESTS,
        "settle": 1e6 * settling / REQUESTS,
        "decisions/s": REQUESTS / (seconds + settling),
    }


def _run(stage: Stage, state: Memory, records: list[Record]) -> tuple[float, list[Output]]:
    outputs: list[Output] = []
    gc.collect()
    gc.disable()  # the services collect rarely: contracts/runtime.py
    started = time.process_time()
    for first in range(0, len(records), BATCH):
        batch = stage.open(state)
        for record in records[first : first + BATCH]:
            outputs += batch.decide(record)
        batch.close()
    seconds = time.process_time() - started
    gc.enable()
    return seconds, outputs


def _requests() -> list[Record]:
    digest = describe(BODY).digest.to_headers()
    records = []
    for offset in range(REQUESTS):
        key = f"acme:k{offset}".encode()
        headers = [
            ("ce_id", b"01JDABCDEFGH"),
            ("ce_type", b"millrace.request.v1"),
            ("tenant", b"acme"),
            ("user", f"user-{offset % USERS}".encode()),
            ("feature", b"support"),
            ("api-key-id", b"key-1"),
            ("lane", b"interactive"),
            ("reply-to", b"responses/3"),
            *digest,
            ("request-key", key),
            ("claim", f"0.{offset}".encode()),
            ("accepted-at", str(START + offset).encode()),
            ("deduped-at", str(START + offset).encode()),
        ]
        records.append(Record("admitted", 0, offset, START + offset, b"acme", BODY, headers, START + offset))
    return records


def _usage(ending: Batch, work: Output, offset: int) -> Record:
    at = START + REQUESTS + offset
    ended = Completion(
        outcome=Outcome.SUCCEEDED, model_version="2.5", prompt_tokens=9, completion_tokens=12, finished_at=at
    )
    headers = [*work.headers, *ended.to_headers()]
    outputs = ending.decide(Record("completions", 0, offset, at, work.key, b"{}", headers, at))
    [event] = [output for output in outputs if output.topic == "usage"]
    return Record("usage", 0, offset, at, event.key, event.value, [], at)
