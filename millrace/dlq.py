"""Dead letters as operators see them: found, and marked when something was done about them.

`dead-letters` is a log and keeps everything; what was done about a letter is a record on the compacted topic
`dead-letters-handled`.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from contracts.clock import now_ms
from contracts.dead_letter import HEADER_PREFIX, DeadLetter, Handled
from contracts.errors import InvalidRequest, StackError
from contracts.headers import RawHeaders
from contracts.kafka import client_options, header, producer_options
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.topic_admin import kafka_admin

Action = Literal["redriven", "dropped"]


@dataclass(frozen=True, slots=True)
class Letter:
    """One record on `dead-letters`. `why` is None when the record doesn't say what a dead letter should."""

    record: ConsumerRecord
    why: DeadLetter | None
    handled: Handled | None

    @property
    def id(self) -> str:
        return letter_id(self.record)

    @property
    def headers(self) -> RawHeaders:
        """As the record had them where it came from."""
        return [(name, value) for name, value in self.record.headers if not name.startswith(HEADER_PREFIX)]

    @property
    def outcome(self) -> str:
        """How its client was answered; empty when it wasn't."""
        return self.why.dead_letter_outcome if self.why else ""

    @property
    def tenant(self) -> str:
        named = header(self.record.headers, "tenant") or (self.record.key or b"").partition(b":")[0]
        return named.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters. `since` is UTC ms; `ids` are `<partition>.<offset>`, none for all."""

    ids: frozenset[str] = frozenset()
    stage: str = ""
    tenant: str = ""
    reason: str = ""
    since: int = 0
    handled: bool = False

    def passes(self, letter: Letter) -> bool:
        why = letter.why
        return (
            (not self.ids or letter.id in self.ids)
            and (self.handled or letter.handled is None)
            and letter.record.timestamp >= self.since
            and self.tenant in ("", letter.tenant)
            and self.stage in ("", why.dead_letter_stage if why else "")
            and self.reason.lower() in (why.dead_letter_reason.lower() if why else "")
        )


def letter_id(record: ConsumerRecord) -> str:
    return f"{record.partition}.{record.offset}"


async def find_letters(settings: Settings, wanted: Filter) -> list[Letter]:
    """Oldest first. Raises StackError without a Kafka, and InvalidRequest when one that is asked for by id isn't."""
    topics = Topics.of(settings)
    await _check_topics(settings, topics.dead_letters, topics.dead_letters_handled)
    handled: dict[str, Handled] = {}
    async for record in _read(settings, topics.dead_letters_handled):
        handled[record.key.decode()] = Handled.model_validate_json(record.value)
    found = []
    async for record in _read(settings, topics.dead_letters, wanted.since):
        letter = Letter(record, _reason(record), handled.get(letter_id(record)))
        if wanted.passes(letter):
            found.append(letter)
    if missing := wanted.ids - {letter.id for letter in found}:
        raise InvalidRequest(f"No dead letter is open under {', '.join(sorted(missing))}: see `millrace dlq list`.")
    return found


async def drop(settings: Settings, letters: Iterable[Letter]) -> int:
    """Marks them handled; the log keeps them. Returns how many."""
    count = 0
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        for letter in letters:
            await mark(producer, settings, letter, "dropped")
            count += 1
    return count


async def mark(producer: AIOKafkaProducer, settings: Settings, letter: Letter, action: Action) -> None:
    """Handled: it is no longer open."""
    value = Handled(action=action, at=now_ms()).model_dump_json().encode()
    await producer.send_and_wait(Topics.of(settings).dead_letters_handled, value, key=letter.id.encode())


def _reason(record: ConsumerRecord) -> DeadLetter | None:
    try:
        return DeadLetter.from_headers([pair for pair in record.headers if pair[0].startswith(HEADER_PREFIX)])
    except InvalidRequest:
        return None


async def _check_topics(settings: Settings, *names: str) -> None:
    async with kafka_admin(settings) as admin:
        described = await admin.describe_topics(list(names))
    if missing := [topic["topic"] for topic in described if not topic["partitions"]]:
        raise StackError(f"Topic {', '.join(missing)} is not there: `millrace topics --create` makes it.")


async def _read(settings: Settings, topic: str, since: int = 0) -> AsyncIterator[ConsumerRecord]:
    """One partition's records from that time (UTC ms) to what is its end now."""
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(**client_options(settings)) as consumer:
        consumer.assign([partition])
        start = (await consumer.offsets_for_times({partition: since}))[partition] if since else None
        if since and start is None:
            return
        if start:
            consumer.seek(partition, start.offset)
        else:
            await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(timeout_ms=200)).get(partition, []):
                yield record
