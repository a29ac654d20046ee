"""What only a real broker shows: several processes, keys that come and go, Kafka going away and coming back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest

from contracts.api_keys import ApiKey, new_api_key
from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import all_topics
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_runtime import KafkaRuntime
from millrace.topic_admin import ensure_topics
from tests.support.frames import chat_answer, chat_run, final_of, hear
from tests.support.ingress import (
    CHAT,
    DEADLINE_SECONDS,
    chat,
    ingress_process,
    kafka_ingress,
    kafka_pipeline,
    write_key,
)
from tests.support.pipeline import Pipeline, echo
from tests.support.until import until

pytestmark = pytest.mark.broker

KEY = ApiKey(id="k1", tenant="acme", created_at=0)


def client_of(url: str, secret: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=DEADLINE_SECONDS)


@pytest.fixture
async def secret(settings: Settings) -> str:
    secret = new_api_key()
    await write_key(settings, secret, KEY)
    return secret


@pytest.fixture
async def pipeline(settings: Settings) -> AsyncIterator[Pipeline]:
    async with kafka_pipeline(settings) as pipeline:
        yield pipeline


async def test_two_processes_know_each_others_requests(settings: Settings, secret: str, pipeline: Pipeline) -> None:
    pipeline.scenario = lambda _: []
    async with ingress_process(settings) as (one, _), ingress_process(settings) as (other, _):
        async with client_of(one, secret) as client:
            accepted = await client.post(CHAT, content=chat(), headers={"Prefer": "respond-async"})
        async with client_of(other, secret) as client:
            poll = asyncio.create_task(client.get(accepted.headers["location"], params={"wait": "20"}))
            await pipeline.seen(2)
            run = chat_run("a", ["done"])
            await pipeline.finish(pipeline.asked[0].key, [final_of(run, chat_answer("done"))])
            assert (await poll).json()["response"]["choices"][0]["message"]["content"] == "done"


async def test_a_stream_is_attached_to_from_another_process(
    settings: Settings, secret: str, pipeline: Pipeline
) -> None:
    pipeline.scenario = lambda _: chat_run("a", ["hello ", "world"])[:2]
    key = {"Idempotency-Key": "followed"}
    async with (
        ingress_process(settings) as (one, _),
        ingress_process(settings) as (other, _),
        client_of(one, secret) as first,
        client_of(other, secret) as second,
    ):
        posts = [asyncio.create_task(first.post(CHAT, content=chat(stream=True), headers=key))]
        await pipeline.seen(1)
        posts.append(asyncio.create_task(second.post(CHAT, content=chat(stream=True), headers=key)))
        await pipeline.seen(2)
        run = chat_run("a", ["hello ", "world"])
        await pipeline.finish(b"acme:followed", [*run[2:], final_of(run, chat_answer("hello world"))])
        heard = [hear((await post).content) for post in posts]
    assert [(one.text, one.done) for one in heard] == [("hello world", True)] * 2
    assert len(pipeline.runs) == 1


async def test_a_request_is_fetched_after_its_process_was_killed(
    settings: Settings, secret: str, pipeline: Pipeline
) -> None:
    async with ingress_process(settings) as (url, process):
        async with client_of(url, secret) as client:
            answer = await client.post(CHAT, content=chat())
        process.kill()
        await process.wait()
    async with ingress_process(settings) as (url, _), client_of(url, secret) as client:
        state = (await client.get(f"/v1/requests/{answer.headers['idempotency-key']}")).json()
    assert orjson.dumps(state["response"]) == answer.content


async def test_large_requests_and_answers_pass(settings: Settings, secret: str, pipeline: Pipeline) -> None:
    """Larger than one fetch: 1 MiB."""
    run, text = chat_run("a", ["x"]), "x" * 3_000_000
    pipeline.scenario = lambda _: [final_of(run, chat_answer(text))]
    async with kafka_ingress(settings) as url, client_of(url, secret) as client:
        answer = await client.post(CHAT, content=chat(text))
    assert answer.json()["choices"][0]["message"]["content"] == text


async def test_keys_come_and_go_while_it_runs(settings: Settings, secret: str) -> None:
    async with kafka_ingress(settings) as url:
        new = new_api_key()
        async with client_of(url, new) as client:
            assert (await client.get("/v1/models")).status_code == 401
            await write_key(settings, new, KEY)
            await status_becomes(client, 200)
            await write_key(settings, new, None)
            await status_becomes(client, 401)
        async with client_of(url, secret) as client:
            assert (await client.get("/v1/models")).status_code == 200


async def status_becomes(client: httpx.AsyncClient, status: int) -> None:
    async def reached() -> bool:
        return (await client.get("/v1/models")).status_code == status

    await until(reached)


@pytest.fixture
async def own_broker(kafka_runtime: KafkaRuntime, tmp_path: Path) -> AsyncIterator[KafkaBroker]:
    broker = KafkaBroker(kafka_runtime, tmp_path / "kafka")
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def own_settings(own_broker: KafkaBroker) -> Settings:
    settings = Settings(kafka_bootstrap_servers=own_broker.bootstrap, ingress_wait_seconds=120)
    await ensure_topics(settings, all_topics(settings, load_catalogue()))
    return settings


async def test_a_killed_broker(own_broker: KafkaBroker, own_settings: Settings) -> None:
    """503 and nothing accepted; when it is back, who waited is answered."""
    secret = new_api_key()
    await write_key(own_settings, secret, KEY)
    async with kafka_pipeline(own_settings) as pipeline, kafka_ingress(own_settings) as url:
        pipeline.scenario = lambda _: chat_run("a", ["hello ", "world"])[:2]
        async with client_of(url, secret) as client:
            waiting = [
                asyncio.create_task(
                    client.post(CHAT, content=chat(stream=stream), headers={"Idempotency-Key": f"waits-{stream}"})
                )
                for stream in (True, False)
            ]
            await pipeline.seen(2)
            own_broker.kill()
            await own_broker.wait()
            await assert_refused(client)
            refused = await client.post(CHAT, content=chat(), headers={"Idempotency-Key": "refused"})
            assert refused.status_code == 503
            await own_broker.start()
            await status_of_ready(client, 200)
            run = chat_run("a", ["hello ", "world"])
            for key in (b"acme:waits-True", b"acme:waits-False"):
                await pipeline.finish(key, [final_of(run, chat_answer("hello world"))])
            streamed, whole = await asyncio.gather(*waiting)
            assert hear(streamed.content).text == "hello world"
            assert whole.json()["choices"][0]["message"]["content"] == "hello world"
            pipeline.scenario = echo
            other = await client.post(CHAT, content=chat("other"), headers={"Idempotency-Key": "refused"})
            assert other.json()["choices"][0]["message"]["content"] == "other", "it had been accepted all the same"


async def test_answers_that_were_lost_are_asked_for_again(own_broker: KafkaBroker, own_settings: Settings) -> None:
    secret = new_api_key()
    await write_key(own_settings, secret, KEY)
    async with kafka_pipeline(own_settings) as pipeline, kafka_ingress(own_settings) as url:
        pipeline.scenario = lambda _: []
        async with client_of(url, secret) as client:
            waiting = asyncio.create_task(client.post(CHAT, content=chat(), headers={"Idempotency-Key": "lost"}))
            await pipeline.seen(1)
            own_broker.kill()
            await own_broker.wait()
            entry = pipeline._entries[b"acme:lost"]
            run = chat_run("a", ["found"])
            entry.end = final_of(run, chat_answer("found"))  # settled, but its frame never got out
            await status_of_ready(client, 503)
            await own_broker.start()
            assert (await waiting).json()["choices"][0]["message"]["content"] == "found"
    assert len(pipeline.runs) == 1


async def test_a_hanging_broker(own_broker: KafkaBroker, own_settings: Settings) -> None:
    """What was handed over before anybody knew may run: the answer says so, and how to retry."""
    secret = new_api_key()
    await write_key(own_settings, secret, KEY)
    assert own_broker.pid is not None
    async with kafka_pipeline(own_settings), kafka_ingress(own_settings) as url, client_of(url, secret) as client:
        assert (await client.post(CHAT, content=chat())).status_code == 200
        os.kill(own_broker.pid, signal.SIGSTOP)
        try:
            answer = await client.post(CHAT, content=chat(), headers={"Idempotency-Key": "unsure"})
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["error"]["code"] in ("unacknowledged", "kafka_unavailable")
            await assert_refused(client)
        finally:
            os.kill(own_broker.pid, signal.SIGCONT)
        await status_of_ready(client, 200)
        again = await client.post(CHAT, content=chat(), headers={"Idempotency-Key": "unsure"})
        assert again.status_code == 200


async def assert_refused(client: httpx.AsyncClient) -> None:
    """While Kafka is still away. How soon: test_kafka_log.py."""
    first = await client.post(CHAT, content=chat())
    assert (first.status_code, first.headers["retry-after"]) == (503, "1")
    await status_of_ready(client, 503)
    second = await client.post(CHAT, content=chat())
    assert second.status_code == 503
    assert second.json()["error"]["code"] == "kafka_unavailable"
    assert "x-should-retry" not in second.headers


async def status_of_ready(client: httpx.AsyncClient, status: int) -> None:
    async def reached() -> bool:
        return (await client.get("/readyz")).status_code == status

    await until(reached)
