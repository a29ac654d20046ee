"""What a million requests cost on disk, in memory and at a start of streams, and their end: `make bench-state`.

Entries are written straight into the changelog, as a day of requests leaves them: first the claim, then the answer.
Streams then recover them from nothing, and once more with a warm disk. All are older than their window, so half as
many questions about unknown keys (each batch removes twice its records) makes them go; the same questions
again, with nothing left to remove, say what the removal itself costs.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.processes import cpu_seconds, rss_mib
from bench.results import publish
from contracts.catalogue import load_catalogue
from contracts.envelope import Claim, RequestType
from contracts.kafka import client_options, producer_options
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import REQUEST_TABLE, Topics, all_topics
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_setup import prepare_kafka
from millrace.service_process import ServiceProcess, ServiceSpec
from millrace.stack_settings import StackSettings
from millrace.topic_admin import ensure_topics
from streams.entry import Answer, Entry
from streams.outbox import Outbox, entered
from streams.partition import partition_of
from streams.reply_topics import ReplyTopics
from streams.store import Write

KEYS = int(os.environ.get("KEYS", "1_000_000"))
ANSWER_BYTES = int(os.environ.get("ANSWER_BYTES", "1_000"))
OLD_MS = 26 * 3_600_000
CHUNK = 2_000  # entries in one batch
LOOK_SECONDS = 5.0
COMPACTION_SECONDS = 180.0  # Kafka's cleaner looks every 15 s
PER_RECORD = 2  # entries that a record's share of tidying up removes
PROGRAM = (
    "from contracts.runtime import main; from contracts.settings import settings; from streams.service import run; "
)
PROGRAM += "main(run, settings())"


class Rig:
    """A Kafka, and streams that come and go. Sizes are MiB, times seconds."""

    def __init__(self, settings: Settings, folder: Path, records: Path) -> None:
        self.settings = settings
        self.topics = Topics.of(settings)
        self._records = records
        given = {
            f"MILLRACE_{name.upper()}": str(value) for name, value in settings.model_dump(exclude_unset=True).items()
        }
        command = [sys.executable, "-c", PROGRAM]
        log = folder / "streams.log"
        self.streams = ServiceProcess(ServiceSpec("streams", command, os.environ | given, log, ready_seconds=600))

    def check(self) -> int:
        """Its process id. On a machine that is too busy its watchdog may have ended it, and nobody starts it again."""
        if self.streams.pid is None:
            sys.exit("The streams have ended: try again when the machine is less busy.")
        return self.streams.pid

    async def start(self) -> float:
        """How long until it is ready."""
        began = time.monotonic()
        await self.streams.start()
        return time.monotonic() - began

    @property
    def _pids(self) -> dict[str, list[int]]:
        return {"streams": [self.check()]}

    @property
    def memory(self) -> float:
        return rss_mib(self._pids)["streams"]

    @property
    def cpu(self) -> float:
        return cpu_seconds(self._pids)["streams"]

    @property
    def disk(self) -> float:
        return _mib(self.settings.streams_state_dir.rglob("*"))

    @property
    def changelog(self) -> float:
        name = self.topics.changelog(REQUEST_TABLE)
        return _mib(path for path in self._records.rglob("*.log") if path.parent.name.rpartition("-")[0] == name)

    async def compacted(self) -> float:
        """The changelog's size once it has stopped to shrink."""
        least, since = self.changelog, time.monotonic()
        began = since
        while time.monotonic() - since < 45 and time.monotonic() - began < COMPACTION_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            if self.changelog < 0.99 * least:
                least, since = self.changelog, time.monotonic()
        return self.changelog


async def main(keys: int, answer_bytes: int) -> None:
    os.nice(19)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millrace-bench-")))
        broker = KafkaBroker(await prepare_kafka(StackSettings()), folder / "kafka")
        await broker.start()
        stack.push_async_callback(broker.stop)
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap, streams_state_dir=folder / "streams")
        await ensure_topics(settings, all_topics(settings, load_catalogue()))
        rig = Rig(settings, folder, folder / "kafka")
        stack.push_async_callback(rig.streams.stop)
        row = await _measure(rig, keys, answer_bytes)
    publish("state", f"{keys:,} requests in the table, answers of {answer_bytes} bytes", [row])


async def _measure(rig: Rig, keys: int, answer_bytes: int) -> dict[str, Any]:
    row: dict[str, Any] = {"keys": keys, "load": os.getloadavg()[0]}
    async with AIOKafkaProducer(**producer_options(rig.settings)) as producer:
        await _fill(rig, producer, keys, answer_bytes)
        row["log written MiB"] = rig.changelog
        row["log compacted MiB"] = await rig.compacted()
        row["recovery s"] = await rig.start()
        row["recovery CPU s"] = rig.cpu
        row["RSS MiB"] = rig.memory
        row["disk MiB"] = rig.disk
        await rig.streams.stop()
        row["warm start s"] = await rig.start()
        questions = keys // PER_RECORD + 2_000
        removing = await _ask(rig, producer, questions)
        row["left MiB"] = rig.disk
        nothing = await _ask(rig, producer, questions)
        row["CPU us/removal"] = 1e6 * (removing - nothing) / keys
        row["CPU us/question"] = 1e6 * nothing / questions
    row["log removed MiB"] = await rig.compacted()
    row["RSS after MiB"] = rig.memory
    return row


async def _fill(rig: Rig, producer: AIOKafkaProducer, keys: int, answer_bytes: int) -> None:
    partitions = rig.settings.request_partitions
    topic = rig.topics.changelog(REQUEST_TABLE)
    outbox = Outbox(producer, {topic: partitions}, rig.topics.responses, ReplyTopics(producer.client), 4_000_000)
    accepted = time.time_ns() // 1_000_000 - OLD_MS
    body = (b'{"object":"chat.completion","text":"' + os.urandom(answer_bytes).hex().encode())[
        : answer_bytes - 2
    ] + b'"}'
    for numbers in _chunks(keys):
        groups: dict[int, list[Write]] = {}
        for number in numbers:
            key = b"tenant-%d:order-%012d" % (number % 100, number)
            home = partition_of(key, partitions)
            groups.setdefault(home, []).extend(_life(key, home, accepted, body))
        for home, writes in groups.items():
            await entered(await outbox.enter_changelog(topic, home, writes, 1))


def _chunks(keys: int) -> Iterator[range]:
    for start in range(0, keys, CHUNK):
        yield range(start, min(start + CHUNK, keys))


def _life(key: bytes, home: int, accepted: int, body: bytes) -> list[Write]:
    claimed = Entry("0123456789abcdef" * 2, Claim(home, 0), accepted, accepted + 3, "small", "responses/3")
    answer = Answer(
        Outcome.SUCCEEDED,
        200,
        f"{home}.0",
        accepted + 900,
        "small",
        "worker-1-77af.4711",
        12,
        400,
        55,
        0,
        120,
        None,
        7,
        "v1",
    )
    return [(key, claimed.encode()), (key, claimed._replace(answer=answer, body=body).encode())]


async def _ask(rig: Rig, producer: AIOKafkaProducer, questions: int) -> float:
    """Questions about keys that nobody has, until all are read. Returns streams' CPU seconds."""
    before = rig.cpu
    headers = [("ce_type", RequestType.LOOKUP.encode())]
    for partition in range(rig.settings.request_partitions):  # an outcome, so that it is known how far those are
        await producer.send(rig.topics.completions, b"", key=b"nobody", partition=partition)
    sent = [
        await producer.send(rig.topics.requests, b"", key=b"tenant:unknown-%d" % number, headers=headers)
        for number in range(questions)
    ]
    await asyncio.gather(*sent)
    await _read(rig)
    await asyncio.sleep(LOOK_SECONDS)  # RocksDB's own work
    return rig.cpu - before


async def _read(rig: Rig) -> None:
    async with AIOKafkaConsumer(
        **client_options(rig.settings), group_id=rig.topics.streams_app, enable_auto_commit=False
    ) as consumer:
        places = [TopicPartition(rig.topics.requests, number) for number in range(rig.settings.request_partitions)]
        ends = await consumer.end_offsets(places)
        while any([(await consumer.committed(place) or 0) < ends[place] for place in places]):
            rig.check()
            await asyncio.sleep(0.5)


def _mib(paths: Iterator[Path]) -> float:
    """Of files that may vanish meanwhile."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total / 2**20


if __name__ == "__main__":
    asyncio.run(main(KEYS, ANSWER_BYTES))
