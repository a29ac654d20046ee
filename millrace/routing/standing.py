"""What the workers tell at this moment, as the streams see it: who is away, and how long a request would wait."""

import asyncio

from aiokafka.errors import KafkaError

from contracts.clock import now_ms
from contracts.compacted import Follower
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.routing.explanation import Asked
from streams.policy.case import CALM, Conditions
from streams.policy.surroundings import Surroundings
from streams.records import Record

_PATIENCE_SECONDS = 10.0


async def conditions_of(settings: Settings, asked: Asked) -> Conditions:
    """Of a request that comes now; calm without a Kafka. (Circuit breakers are each process's own: not known here.)"""
    surroundings, topics = Surroundings(settings), Topics.of(settings)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), Follower(settings, topics.workers, surroundings.apply):
            pass
    except (KafkaError, TimeoutError):
        return CALM
    now = now_ms()
    key = asked.request.request_key.partition(":")[0].encode()
    record = Record(topics.admitted, 0, 0, now, key, asked.body, [], now)
    return surroundings.conditions(asked.request, record, 0.0)
