"""Dead letters on the real broker: found by filter, sent back as they were, set aside."""

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from contracts.dead_letter import DeadLetter
from contracts.errors import InvalidRequest
from contracts.headers import RawHeaders
from contracts.kafka import header
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.dlq import Filter, Letter, drop, find_letters
from millrace.redrive import redrive
from tests.support.audit import read_all

pytestmark = pytest.mark.broker
OWN: RawHeaders = [("user", b"ann"), ("user", b"bob"), ("odd", b"\xff")]


async def put(
    settings: Settings,
    key: bytes | None,
    *,
    reason: str = "no JSON",
    stage: str = "dedupe",
    claim: str = "",
    **more: object,
) -> None:
    topics = Topics.of(settings)
    letter = DeadLetter(
        dead_letter_reason=reason,
        dead_letter_stage=stage,
        dead_letter_partition=0,
        dead_letter_offset=7,
        **{"dead_letter_topic": topics.requests} | more,  # type: ignore[arg-type]
    )
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        claimed = [("claim", claim.encode())] if claim else []
        await producer.send_and_wait(topics.dead_letters, b"{", key=key, headers=[*OWN, *claimed, *letter.to_headers()])


def keys(letters: list[Letter]) -> list[bytes | None]:
    return [letter.record.key for letter in letters]


async def on_requests(settings: Settings) -> list[ConsumerRecord]:
    return await read_all(settings.kafka_bootstrap_servers, Topics.of(settings).requests)


async def test_letters_are_found_by_filter(settings: Settings) -> None:
    assert await find_letters(settings, Filter()) == []
    await put(settings, b"acme:one")
    await put(settings, b"globex:two", reason="It killed its worker.", stage="worker")
    await put(settings, None, reason="The record key must be tenant:idempotency_key.")
    letters = await find_letters(settings, Filter())
    assert keys(letters) == [b"acme:one", b"globex:two", None]
    last = letters[1].record.timestamp + 1
    found = {
        what: keys(await find_letters(settings, wanted))
        for what, wanted in {
            "stage": Filter(stage="worker"),
            "tenant": Filter(tenant="acme"),
            "reason": Filter(reason="KILLED"),
            "id": Filter(ids=frozenset({"0.0"})),
            "later": Filter(since=last + 3_600_000),
            "both": Filter(stage="worker", tenant="acme"),
        }.items()
    }
    assert found == {
        "stage": [b"globex:two"],
        "tenant": [b"acme:one"],
        "reason": [b"globex:two"],
        "id": [b"acme:one"],
        "later": [],
        "both": [],
    }
    with pytest.raises(InvalidRequest, match=r"0\.9"):
        await find_letters(settings, Filter(ids=frozenset({"0.0", "0.9"})))


async def test_a_redriven_record_is_what_it_was_where_it_was(settings: Settings) -> None:
    await put(settings, b"acme:one")
    await put(settings, None)
    stays: list[str] = []
    letters = await find_letters(settings, Filter())
    assert await redrive(settings, letters, lambda letter, _: stays.append(letter.id)) == 2
    assert stays == []
    records = {record.key: record for record in await on_requests(settings)}
    assert set(records) == {b"acme:one", None}
    assert records[None].partition == 0
    for record in records.values():
        assert (record.value, list(record.headers)) == (b"{", OWN)
    assert await find_letters(settings, Filter()) == []
    handled = await find_letters(settings, Filter(handled=True))
    assert [letter.handled.action for letter in handled if letter.handled] == ["redriven", "redriven"]


async def test_what_was_answered_or_has_no_place_stays(settings: Settings) -> None:
    await put(settings, b"acme:answered", dead_letter_outcome="cancelled")
    await put(settings, b"acme:gone", claim="3.17", dead_letter_outcome="failed")
    await put(settings, b"acme:elsewhere", dead_letter_topic="orders")
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        await producer.send_and_wait(Topics.of(settings).dead_letters, b"{", key=b"acme:foreign")
    why: dict[bytes | None, str] = {}
    letters = await find_letters(settings, Filter())
    assert await redrive(settings, letters, lambda letter, told: why.update({letter.record.key: told})) == 0
    assert "answered (cancelled)" in why[b"acme:answered"]
    assert "no longer in Kafka" in why[b"acme:gone"]
    assert "none of ours" in why[b"acme:elsewhere"]
    assert "where it came from" in why[b"acme:foreign"]
    assert await on_requests(settings) == []
    assert len(await find_letters(settings, Filter())) == 4


async def test_dropped_letters_are_no_longer_open(settings: Settings) -> None:
    await put(settings, b"acme:one")
    await put(settings, b"acme:two")
    assert await drop(settings, await find_letters(settings, Filter(ids=frozenset({"0.0"})))) == 1
    assert keys(await find_letters(settings, Filter())) == [b"acme:two"]
    assert keys(await find_letters(settings, Filter(handled=True))) == [b"acme:one", b"acme:two"]
    with pytest.raises(InvalidRequest):
        await find_letters(settings, Filter(ids=frozenset({"0.0"})))


async def test_a_request_that_failed_is_asked_again_and_says_which_claim_it_takes_the_place_of(
    settings: Settings,
) -> None:
    """The record on `requests`, not the letter's own: that may be work, or an answer."""
    headers = [*OWN, ("redrive", b"0.0"), ("caller", b"ann")]
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        topic = Topics.of(settings).requests
        await producer.send_and_wait(topic, b"another", key=b"acme:other", partition=3)
        asked = await producer.send_and_wait(topic, b"body", key=b"acme:one", headers=headers, partition=3)
    claim = f"3.{asked.offset}"
    await put(settings, b"acme:one", stage="worker", claim=claim, dead_letter_outcome="failed")
    assert await redrive(settings, await find_letters(settings, Filter()), lambda *_: None) == 1
    again = next(
        record for record in await on_requests(settings) if header(record.headers, "redrive") == claim.encode()
    )
    assert (again.key, again.value) == (b"acme:one", b"body")
    assert list(again.headers) == [*OWN, ("redrive", claim.encode())]
    assert await find_letters(settings, Filter()) == []
