"""How soon a request is refused that Kafka doesn't take."""

import asyncio

import pytest

from contracts.errors import KafkaUnavailable, Unacknowledged
from contracts.settings import Settings
from ingress.kafka_log import KafkaRequestLog
from ingress.link import Link
from tests.support.leaping_clock import on_leaping_clock


class HangingProducer:
    """Delivers nothing, and takes records or not even that."""

    def __init__(self, takes: bool) -> None:
        self._takes = takes
        self.asked = 0

    async def send(self, *_record: object, **_headers: object) -> "asyncio.Future[object]":
        self.asked += 1
        if not self._takes:
            await asyncio.Event().wait()
        return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(("takes", "error"), [(True, Unacknowledged), (False, KafkaUnavailable)])
@on_leaping_clock
async def test_the_first_is_refused_within_two_seconds_and_the_next_at_once(
    monkeypatch: pytest.MonkeyPatch, takes: bool, error: type[KafkaUnavailable]
) -> None:
    producer, clock = HangingProducer(takes), asyncio.get_running_loop().time
    monkeypatch.setattr("ingress.kafka_log.producer_of", lambda *_, **__: producer)
    log = KafkaRequestLog(Settings(), "requests", Link())
    began = clock()
    with pytest.raises(KafkaUnavailable) as first:
        await log.append(b"acme:one", b"{}", [])
    assert (type(first.value), first.value.retry_after) == (error, 1)
    assert clock() - began <= 2
    told = clock()
    with pytest.raises(KafkaUnavailable) as second:
        await log.append(b"acme:two", b"{}", [])
    assert type(second.value) is KafkaUnavailable
    assert (clock(), producer.asked) == (told, 1)
