"""Redrive: a dead letter's record goes on its way again, with its identity.

A record that nobody was answered for goes back to where it came from, as it was. One whose request was answered with a
failure can't: its key keeps that answer, and its claim is over. There the request itself is asked again, as it was on
`requests`, and names the claim that failed; the key's owner then lets it run once more, under a new claim.

A letter is redriven first and marked after: when that is interrupted it may be redriven twice, which its identity makes
harmless, and is never forgotten.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from contracts.catalogue import load_catalogue
from contracts.envelope import Claim
from contracts.errors import InvalidRequest
from contracts.headers import RawHeaders
from contracts.kafka import client_options, header, producer_options
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import GROWTH_BYTES, Topics, all_topics
from millrace.dlq import Letter, mark

_MAY_RUN_AGAIN = (Outcome.FAILED, Outcome.REJECTED)  # neither is billed
_OF_THE_FIRST_ASKER = ("redrive", "caller")  # who may have hung up long ago
_READ_MS = 10_000
Requests = Mapping[Claim, ConsumerRecord]


class _Way(NamedTuple):
    """What is sent, and where to. Without a partition the key decides, as for every writer here."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    partition: int | None = None


class _Stays(Exception):  # noqa: N818
    """Why a letter can't be redriven."""


async def redrive(settings: Settings, letters: Sequence[Letter], told: Callable[[Letter, str], None]) -> int:
    """Returns how many were. `told` hears why one stays."""
    known = {spec.name for spec in all_topics(settings, load_catalogue(settings.routes_file))}
    requests = await _read_claims(settings, {claim for letter in letters if (claim := _claim(letter))})
    options = producer_options(settings) | {"max_request_size": settings.max_body_bytes + GROWTH_BYTES}
    count = 0
    async with AIOKafkaProducer(**options) as producer:
        for letter in letters:
            try:
                way = _way(Topics.of(settings), letter, known, requests)
            except _Stays as reason:
                told(letter, str(reason))
                continue
            await producer.send_and_wait(way.topic, way.value, way.key, way.partition, headers=way.headers)
            await mark(producer, settings, letter, "redriven")
            count += 1
    return count


def _way(topics: Topics, letter: Letter, known: set[str], requests: Requests) -> _Way:
    why, record = letter.why, letter.record
    if why is None:
        raise _Stays("its headers don't say where it came from")
    if why.dead_letter_topic not in known:
        raise _Stays(f"topic {why.dead_letter_topic} is none of ours")
    if why.dead_letter_outcome:
        return _anew(topics, letter, requests)
    partition = None if record.key is not None else why.dead_letter_partition
    return _Way(why.dead_letter_topic, record.key, record.value, letter.headers, partition)


def _anew(topics: Topics, letter: Letter, requests: Requests) -> _Way:
    outcome, claim = letter.outcome, _claim(letter)
    if outcome not in _MAY_RUN_AGAIN or claim is None:
        raise _Stays(f"its client was answered ({outcome}) and its key keeps that answer; ask under a new key")
    request = requests.get(claim)
    if request is None:
        raise _Stays("its request is no longer in Kafka; ask under a new key")
    kept = [pair for pair in request.headers if pair[0] not in _OF_THE_FIRST_ASKER]
    return _Way(topics.requests, request.key, request.value, [*kept, ("redrive", str(claim).encode())])


def _claim(letter: Letter) -> Claim | None:
    """Of one that was answered: where its request is."""
    try:
        return Claim.parse((header(letter.record.headers, "claim") or b"").decode()) if letter.outcome else None
    except (InvalidRequest, UnicodeDecodeError):
        return None


async def _read_claims(settings: Settings, claims: Iterable[Claim]) -> dict[Claim, ConsumerRecord]:
    """Those that Kafka still has."""
    wanted = sorted(claims)
    found: dict[Claim, ConsumerRecord] = {}
    if not wanted:
        return found
    topic = Topics.of(settings).requests
    async with AIOKafkaConsumer(**client_options(settings)) as consumer:
        for claim in wanted:
            place = TopicPartition(topic, claim.partition)
            if claim.partition < settings.request_partitions and (record := await _read(consumer, place, claim.offset)):
                found[claim] = record
    return found


async def _read(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> ConsumerRecord | None:
    begin = (await consumer.beginning_offsets([place]))[place]
    end = (await consumer.end_offsets([place]))[place]
    if not begin <= offset < end:
        return None
    consumer.assign([place])
    consumer.seek(place, offset)
    records = (await consumer.getmany(timeout_ms=_READ_MS, max_records=1)).get(place, [])
    return records[0] if records and records[0].offset == offset else None
