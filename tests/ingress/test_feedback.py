"""What callers think of answers, on its way into the log."""

import orjson
import pytest

from contracts.feedback import Feedback
from contracts.settings import Settings
from contracts.topics import Topics
from tests.support.ingress import Api
from tests.support.records import read


@pytest.mark.broker
async def test_feedback_is_written_down_under_the_requests_key(kafka: Api, broker_settings: Settings) -> None:
    async with kafka.http() as client:
        answer = await client.post("/v1/requests/a%2Fb/feedback", json={"score": 0.5, "label": "thumbs"})
    assert answer.status_code == 202
    assert answer.json() == {"object": "feedback", "request": "a/b", "score": 0.5, "label": "thumbs"}
    topics = Topics.of(broker_settings)
    partitions = broker_settings.tenant_partitions
    [record] = await read(broker_settings.kafka_bootstrap_servers, topics.feedback, 1, partitions=partitions)
    assert record.key == b"acme:a/b"
    assert Feedback.decode(record.value) == Feedback(score=0.5, label="thumbs")


@pytest.mark.parametrize("body", [b"", b"{", b'{"score": 2}', b'{"score": "good"}', b'{"scores": 1}'])
async def test_what_is_no_feedback_is_refused_and_said(memory: Api, body: bytes) -> None:
    async with memory.http() as client:
        answer = await client.post("/v1/requests/k/feedback", content=body)
    assert answer.status_code == 400
    assert orjson.loads(answer.content)["error"]["type"] == "invalid_request_error"


async def test_feedback_needs_a_key_and_is_small(memory: Api) -> None:
    async with memory.http(Authorization="Bearer no") as client:
        assert (await client.post("/v1/requests/k/feedback", json={"score": 1})).status_code == 401
    async with memory.http() as client:
        assert (await client.post("/v1/requests/k/feedback", content=b" " * 5000)).status_code == 413
