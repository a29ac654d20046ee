"""What passed through Millrace, from its own log: each request as the router saw it, and what it then used."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from analytics.reconcile.kafka_log import KafkaLog, kafka_log
from contracts.envelope import Admitted
from contracts.errors import InvalidRequest, StackError
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from millrace.routing.explanation import Asked

_SPACE = 2.0**32


class Spent(NamedTuple):
    """What a request really used, and of which model."""

    model: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_nano: int


class Past(NamedTuple):
    """A request that ended with a bill. `at` is when it was admitted, UTC ms."""

    request: Admitted
    body: bytes
    at: int
    spent: Spent


class Seen(NamedTuple):
    taken: int
    left_out: int  # refused, failed, still under way, or admitted twice by a crash
    not_drawn: int  # billed as well, but not in the sample


async def past_requests(
    settings: Settings, since: int, until: int, take: Callable[[Past], None], most: int | None = None
) -> Seen:
    """Hands over what was admitted in that time (UTC ms), or about `most` of it, drawn by key. Raises StackError.

    Bodies are held one at a time; what each request used is held for all of them.
    """
    async with kafka_log(settings) as log:
        spent: dict[str, Spent] = {}
        await _read(log, settings, log.topics.usage, since, lambda record: _spend(record, spent))
        reading = _Reading(take, spent, until, 1.0 if most is None else most / max(1, len(spent)))
        await _read(log, settings, log.topics.admitted, since, reading.hear)
    return Seen(reading.taken, reading.left_out, reading.not_drawn)


async def past_request(settings: Settings, request_key: str, since: int, until: int) -> Asked:
    """The latest admission of that request in that time (UTC ms). Raises StackError when there is none."""
    found: list[Asked] = []

    def hear(record: ConsumerRecord) -> None:
        if dict(record.headers).get("request-key") == request_key.encode() and record.timestamp < until:
            found.append(Asked(Admitted.from_headers(record.headers), record.value, record.timestamp))

    async with kafka_log(settings) as log:
        await _read(log, settings, log.topics.admitted, since, hear)
    if not found:
        raise StackError(f"No request {request_key} was admitted in that time, or Kafka has it no longer.")
    return found[-1]


class _Reading:
    def __init__(self, take: Callable[[Past], None], spent: dict[str, Spent], until: int, share: float) -> None:
        self.taken = self.left_out = self.not_drawn = 0
        self._take = take
        self._spent = spent
        self._until = until
        self._share = share

    def hear(self, record: ConsumerRecord) -> None:
        if not record.value or record.timestamp >= self._until:  # what has no body asks for no run
            return
        try:
            request = Admitted.from_headers(record.headers)
        except InvalidRequest:
            return  # it lies in dead-letters
        spent = self._spent.pop(f"{request.request_key}\n{request.claim}", None)
        if spent is None:
            self.left_out += 1
        elif _point(request.request_key) >= self._share:
            self.not_drawn += 1
        else:
            self.taken += 1
            self._take(Past(request, record.value, record.timestamp, spent))


async def _read(
    log: KafkaLog, settings: Settings, topic: str, since: int, handle: Callable[[ConsumerRecord], None]
) -> None:
    partitions = [TopicPartition(topic, number) for number in range(settings.tenant_partitions)]
    await log.read(await log.at(since, partitions, await log.ends(partitions)), handle)


def _spend(record: ConsumerRecord, spent: dict[str, Spent]) -> None:
    try:
        event = UsageEvent.model_validate_json(record.value or b"")
    except ValueError:
        return
    if event.kind is not UsageKind.USAGE or not event.outcome.billed:
        return
    key = f"{event.tenant}:{event.idempotency_key}\n{event.claim}"
    tokens = (event.prompt_tokens, event.cached_tokens, event.completion_tokens)
    spent[key] = Spent(event.model, *tokens, event.cost_nano)


def _point(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest()) / _SPACE
