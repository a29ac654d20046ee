"""What a window of traffic leaves in Kafka, written by hand, so that a test can leave something out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from contracts.headers import RawHeaders
from contracts.kafka import client_options, producer_options
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import Topics
from contracts.usage import UsageEvent, UsageKind, event_id
from tests.support.audit import read_all


@dataclass(frozen=True)
class Story:
    """One request, told as it should be; a test changes the telling."""

    key: str
    tenant: str = "acme"
    admitted: bool = True
    work: bool = False
    outcome: Outcome | None = Outcome.SUCCEEDED
    outcomes: int = 1
    billed: int = 1  # times that its usage event is published
    behind_ms: int = 0  # the stages' clocks, against that of the producer
    usage: dict[str, Any] = field(default_factory=dict)  # what the event says otherwise


@dataclass
class History:
    """`events` in the order in which they were published."""

    settings: Settings
    producer: AIOKafkaProducer
    now: int  # UTC ms: time of the next record
    events: list[UsageEvent] = field(default_factory=list)

    @property
    def topics(self) -> Topics:
        return Topics.of(self.settings)

    async def tell(self, story: Story) -> UsageEvent:
        """Its event, whether it was published or not."""
        name = f"{story.tenant}:{story.key}"
        asked = await self.send(self.topics.requests, name, b"{}", [])
        self.now -= story.behind_ms
        accepted_at, claim = self.now, f"{asked.partition}.{asked.offset}"
        headers = [("request-key", name.encode()), ("claim", claim.encode()), ("accepted-at", b"%d" % accepted_at)]
        if story.admitted:
            await self.send(self.topics.admitted, story.tenant, b"{}", headers)
        if story.work:
            await self.send(self.topics.work("small", "interactive"), name, b"{}", headers)
        ended: list[str] = []
        for _ in range(story.outcomes if story.outcome else 0):
            sent = await self.send(self.topics.completions, name, b"{}", headers + self._ended(story.outcome))
            ended.append(f"{sent.partition}.{sent.offset}")
        event = self._event(story, claim, accepted_at)
        for _ in range(story.billed):
            await self.publish(event)
        for late in ended[1:]:
            again = {"event_id": event_id(name, claim, late), "kind": UsageKind.WASTE, "cost_nano": 0}
            await self.publish(event.model_copy(update=again))
        self.now += story.behind_ms
        return event

    async def publish(self, event: UsageEvent) -> None:
        self.events.append(event)
        await self.send(self.topics.usage, event.tenant, event.model_dump_json().encode(), [])

    async def send(self, topic: str, key: str, value: bytes, headers: RawHeaders) -> Any:
        self.now += 7
        return await self.producer.send_and_wait(topic, value, key=key.encode(), headers=headers, timestamp_ms=self.now)

    async def commit(self, *, stored: bool = True, **until: int) -> None:
        """Every stage has done with everything, but for `until`: on that topic its reader stands at this offset.
        Without `stored` a real sink commits for itself."""
        streams = (self.topics.requests, self.topics.admitted, self.topics.completions, self.topics.usage)
        work = self.topics.work("small", "interactive")
        await self._commit(self.topics.streams_app, streams, until)
        if stored:
            await self._commit(self.topics.sink_group, (self.topics.usage,), {"usage": until.get("sink", 2**40)})
        await self._commit(self.topics.worker_group("small"), (work,), until)

    async def usage(self) -> list[ConsumerRecord]:
        """As the sink reads them."""
        return await read_all(self.settings.kafka_bootstrap_servers, self.topics.usage)

    def _ended(self, outcome: Outcome | None) -> RawHeaders:
        tokens = (("prompt-tokens", b"21"), ("cached-tokens", b"5"), ("completion-tokens", b"34"))
        return [("outcome", (outcome or "").encode()), *tokens]

    def _event(self, story: Story, claim: str, accepted_at: int) -> UsageEvent:
        said: dict[str, Any] = {
            "event_id": event_id(f"{story.tenant}:{story.key}", claim),
            "event_time": self.now,
            "tenant": story.tenant,
            "idempotency_key": story.key,
            "claim": claim,
            "operation": "chat",
            "requested_model": "small",
            "outcome": story.outcome or Outcome.FAILED,
            "status": 200,
            "prompt_tokens": 21,
            "cached_tokens": 5,
            "completion_tokens": 34,
            "cost_nano": 123_456_789,
            "accepted_at": accepted_at,
            "deduped_at": accepted_at,
            "finished_at": self.now,
        }
        return UsageEvent(**said | story.usage)

    async def _commit(self, group: str, topics: tuple[str, ...], until: dict[str, int]) -> None:
        options = client_options(self.settings)
        async with AIOKafkaConsumer(group_id=group, enable_auto_commit=False, **options) as consumer:
            ends: dict[TopicPartition, int] = {}
            for topic in topics:
                count = self._partitions(topic)
                ends |= await consumer.end_offsets([TopicPartition(topic, number) for number in range(count)])
            consumer.assign(list(ends))
            most = {tp: until.get(tp.topic.removeprefix(self.topics.prefix), 2**40) for tp in ends}
            await consumer.commit({tp: min(end, most[tp]) for tp, end in ends.items()})

    def _partitions(self, topic: str) -> int:
        name = topic.removeprefix(self.topics.prefix)
        if name.startswith("work."):
            return self.settings.work_partitions
        return self.settings.tenant_partitions if name in ("admitted", "usage") else self.settings.request_partitions


@asynccontextmanager
async def history(settings: Settings, start: int) -> AsyncIterator[History]:
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        yield History(settings, producer, start)


def stories(count: int, **changes: Any) -> list[Story]:
    """Of several tenants."""
    told = [Story(f"key-{number}", f"tenant-{number % 3}") for number in range(count)]
    return [replace(story, **changes) for story in told]
