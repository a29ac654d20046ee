"""One trace per request, whole, from a stack that exports to a collector of the test's own; and what its logs say."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import clickhouse_connect
import httpx
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from contracts.settings import Settings
from millrace.kafka_runtime import KafkaRuntime
from millrace.keys import create_key
from millrace.stack_file import StackFile, running_stack
from tests.support.collector import Collector, Seen, collecting, tree
from tests.support.commands import Command
from tests.support.processes import gone
from tests.support.until import until

pytestmark = pytest.mark.stack
CLIENT = "b7ad6b7169203331"
SECRET_WORDS = "heliotrope marmalade zeppelin"  # of the prompt: to be found nowhere
PASSWORD = "canary-password-7f3a"
WORK = "work.small.interactive"
BEHIND_HTTP = {
    "dedupe requests": 1,
    "send admitted": 1,
    "meter admitted": 1,
    "route": 1,
    f"send {WORK}": 1,
    f"queue {WORK}": 1,
    f"process {WORK}": 1,
    "chat small": 1,
    "send completions": 1,
    "settle completions": 1,
    "send responses": 1,
    "send usage": 1,
    "tally usage": 1,
    "store usage": 1,
}
OVER_HTTP = BEHIND_HTTP | {"POST /v1/chat/completions": 1, "send requests": 1, "receive responses": 1}


@dataclass
class Traced:
    folder: Path
    secret: str  # its API key
    stack: StackFile
    collector: Collector
    http: httpx.AsyncClient

    def body(self, max_tokens: int = 5, **more: object) -> dict[str, object]:
        message = {"role": "user", "content": f"Where is my order? {SECRET_WORDS}"}
        return {"model": "small", "messages": [message], "max_tokens": max_tokens} | more

    async def whole(self, key: str, **headers: str) -> httpx.Response:
        return await self.http.post(
            "/v1/chat/completions", json=self.body(temperature=0.5, seed=7), headers={"Idempotency-Key": key, **headers}
        )

    async def trace_of(self, key: str) -> str:
        """The id of the trace in which that request was sent."""
        named = {"messaging.kafka.message.key": f"acme:{key}"}
        found: list[str] = []

        async def seen() -> bool:
            found[:] = [
                span.trace_id for span in list(self.collector.spans) if named.items() <= span.attributes.items()
            ]
            return bool(found)

        await until(seen)
        return found[0]

    async def spans_of(self, key: str, names: dict[str, int]) -> list[Seen]:
        return await self.collector.trace(await self.trace_of(key), lambda found: found >= Counter(names))


@pytest.fixture(scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory, kafka_runtime: KafkaRuntime) -> AsyncIterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    with collecting() as collector:
        environment = {
            "MILLRACE_KAFKA_PORT": 0,
            "MILLRACE_ANALYTICS_PORT": 0,
            "MILLRACE_SINK_MAX_WAIT_MS": 100,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": 100,
            "OTEL_EXPORTER_OTLP_TIMEOUT": 3600,
            "MILLRACE_LOG_FORMAT": "json",
            "MILLRACE_LOG_LEVEL": "debug",
            "MILLRACE_SYNTHETIC_FAULTS": True,
            "MILLRACE_CLICKHOUSE_PASSWORD": PASSWORD,
            "MILLRACE_OPENAI_API_KEY": PASSWORD,
        }
        command = await Command.start(
            "millrace", "up", "--port", 0, "--data-dir", folder, "--workers", 2, environment=environment
        )
        try:
            await command.until("ready ")
            stack = running_stack(folder)
            secret = (await create_key(Settings(kafka_bootstrap_servers=stack.kafka), "acme")).secret
            headers = {"Authorization": f"Bearer {secret}"}
            async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:

                async def known() -> bool:
                    return (await http.get("/v1/models")).status_code == httpx.codes.OK

                await until(known)
                yield Traced(folder, secret, stack, collector, http)
            command.signal(signal.SIGTERM)
            assert (await command.ended()).status == 0
        finally:
            await command.discard()


def check_whole(spans: list[Seen], root_parent: str = "") -> None:
    known = {span.span_id: span for span in spans}
    roots = [span for span in spans if span.parent_id not in known]
    assert [(span.name, span.parent_id) for span in roots] == [(roots[0].name, root_parent)], tree(spans)
    for span in spans:
        assert span.start_ns <= span.end_ns, span.name
        parent = known.get(span.parent_id)
        if parent:  # a record's timestamp is in whole milliseconds
            assert span.start_ns >= parent.start_ns - 1_000_000, f"{span.name} before {parent.name}"
    for span in spans:
        said = " ".join(map(str, span.attributes.values()))
        assert not any(word in said for word in SECRET_WORDS.split()), span


def one(spans: list[Seen], name: str) -> Seen:
    [span] = [span for span in spans if span.name == name]
    return span


def names(spans: list[Seen]) -> Counter[str]:
    return Counter(span.name for span in spans)


async def test_a_request_over_http_is_one_trace(traced: Traced) -> None:
    key, trace_id = f"traced-{uuid4()}", uuid4().hex
    answer = await traced.whole(key, traceparent=f"00-{trace_id}-{CLIENT}-01", tracestate="vendor=1")
    assert answer.status_code == 200
    spans = await traced.spans_of(key, OVER_HTTP)
    assert {span.trace_id for span in spans} == {trace_id}
    assert names(spans) == OVER_HTTP
    check_whole(spans, CLIENT)
    assert {span.service for span in spans} == {f"millrace-{s}" for s in ("ingress", "streams", "worker", "analytics")}

    http = one(spans, "POST /v1/chat/completions")
    assert http.kind == "server"
    assert (http.attributes["http.route"], http.attributes["http.response.status_code"]) == (
        "/v1/chat/completions",
        200,
    )
    sent, deduped = one(spans, "send requests"), one(spans, "dedupe requests")
    assert (sent.kind, deduped.kind, deduped.parent_id) == ("producer", "consumer", sent.span_id)
    assert deduped.links == {(trace_id, sent.span_id)}
    assert deduped.attributes["messaging.consumer.group.name"] == "millrace-streams"
    assert (deduped.attributes["messaging.system"], deduped.attributes["messaging.operation.type"]) == (
        "kafka",
        "process",
    )
    received = one(spans, "receive responses")
    assert (received.kind, received.links) == ("client", {(trace_id, one(spans, "send responses").span_id)})
    assert received.end_ns <= http.end_ns
    assert one(spans, "route").attributes["millrace.route"] == "named"
    check_generation(one(spans, "chat small"), answer.json(), key)


def check_generation(span: Seen, answer: dict[str, object], key: str) -> None:
    usage = answer["usage"]
    assert isinstance(usage, dict)
    assert span.events == ("gen_ai.first_token",)
    assert {name: value for name, value in span.attributes.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "synthetic",
        "gen_ai.request.model": "small",
        "gen_ai.request.stream": False,
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.response.id": f"chatcmpl-{key}",
        "gen_ai.response.model": "small",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.response.time_to_first_chunk": span.attributes["gen_ai.response.time_to_first_chunk"],
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 0,
    }


async def test_a_stream_is_one_trace(traced: Traced) -> None:
    """The first frame came from the worker, the last from settle, and the call heard both."""
    key = f"traced-{uuid4()}"
    body = traced.body(stream=True)
    async with traced.http.stream(
        "POST", "/v1/chat/completions", json=body, headers={"Idempotency-Key": key}
    ) as answer:
        assert b"[DONE]" in await answer.aread()
    expected = OVER_HTTP | {"receive responses": 2}
    spans = await traced.spans_of(key, expected)
    assert names(spans) == expected
    check_whole(spans)
    assert one(spans, "chat small").attributes["gen_ai.request.stream"] is True
    heard = {link[1] for span in spans if span.name == "receive responses" for link in span.links}
    assert heard == {one(spans, f"process {WORK}").span_id, one(spans, "send responses").span_id}


async def test_a_direct_producers_request_is_one_trace(traced: Traced) -> None:
    key = f"traced-{uuid4()}"
    async with AIOKafkaProducer(bootstrap_servers=traced.stack.kafka) as producer:
        await producer.send_and_wait("requests", orjson.dumps(traced.body()), key=f"acme:{key}".encode())
    spans = await traced.spans_of(key, BEHIND_HTTP)
    assert names(spans) == BEHIND_HTTP
    check_whole(spans)
    assert one(spans, "dedupe requests").parent_id == ""


async def test_a_retry_links_to_the_run_that_answered_it(traced: Traced) -> None:
    key = f"traced-{uuid4()}"
    first = await traced.whole(key)
    ran = await traced.spans_of(key, OVER_HTTP)
    trace_id = uuid4().hex
    again = await traced.whole(key, traceparent=f"00-{trace_id}-{CLIENT}-01")
    assert again.content == first.content
    answered = {"POST /v1/chat/completions": 1, "send requests": 1, "dedupe requests": 1}
    answered |= {"send responses": 1, "receive responses": 1}
    spans = await traced.collector.trace(trace_id, lambda found: found >= Counter(answered))
    assert names(spans) >= Counter(answered)
    check_whole(spans, CLIENT)
    assert len(ran) == sum(OVER_HTTP.values())


async def test_each_try_is_in_the_trace_of_a_request_whose_worker_was_killed(traced: Traced) -> None:
    """It may be tried a third time, when the worker that comes back takes its partition."""
    key = f"traced-{uuid4()}"
    body = traced.body(max_tokens=1200)  # at 6 ms each
    asking = asyncio.create_task(traced.http.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": key}))
    first = one(await traced.spans_of(key, {f"queue {WORK}": 1}), f"queue {WORK}")
    victim = int(first.instance.rpartition("-")[2])
    os.kill(victim, signal.SIGKILL)
    await gone(victim)
    assert (await asking).status_code == 200
    spans = await traced.spans_of(key, OVER_HTTP | {f"queue {WORK}": 2})
    assert set(names(spans)) == set(OVER_HTTP)
    check_whole(spans)
    tries = [span for span in spans if span.name == f"queue {WORK}"]
    assert (tries[0].instance, tries[0].attributes["millrace.redelivered"]) == (first.instance, False)
    finished = [span for span in spans if span.name == f"process {WORK}"]
    assert all(span.attributes["millrace.redelivered"] for span in (*tries[1:], *finished))
    assert first.instance not in {span.instance for span in (*tries[1:], *finished)}


async def test_a_collector_that_hangs_is_waited_for_by_nobody(traced: Traced) -> None:
    """An export is given an hour."""
    traced.collector.answering.clear()
    asked = traced.collector.asked

    async def exporting() -> bool:
        return traced.collector.asked > asked

    try:
        await traced.whole(f"traced-{uuid4()}")
        await until(exporting)
        answers = await asyncio.gather(*(traced.whole(f"traced-{uuid4()}") for _ in range(60)))
        assert {answer.status_code for answer in answers} == {200}
    finally:
        traced.collector.answering.set()


async def misuse(traced: Traced) -> None:
    """Everything that may tempt somebody to write down what was sent."""
    post, chat = traced.http.post, "/v1/chat/completions"
    said = {"role": "user", "content": SECRET_WORDS}
    refused = [
        await post(chat, content=f'{{"model": "small", "messages": "{SECRET_WORDS}'.encode()),
        await post(chat, json={"model": "small", "messages": [said], "temperature": SECRET_WORDS}),
        await post(chat, json={"model": SECRET_WORDS, "messages": [said]}),
        await post(chat, json=traced.body(), headers={"Millrace-Deadline": SECRET_WORDS}),
        await post(chat, json=traced.body(metadata={"synthetic_fault": "error"})),
        await post(chat, json=traced.body(metadata={"synthetic_fault": "overload"})),
        await post(chat, json=traced.body(), headers={"Authorization": f"Bearer {PASSWORD}"}),
    ]
    assert [answer.status_code for answer in refused] == [400, 400, 404, 400, 500, 503, 401]
    garbage = f"{{{SECRET_WORDS}".encode()
    async with AIOKafkaProducer(bootstrap_servers=traced.stack.kafka) as producer:
        for topic in ("requests", "admitted", "completions", "usage", "control", WORK):
            for key in (b"acme:garbage", SECRET_WORDS.encode(), None):
                headers = [("claim", garbage), ("outcome", garbage), ("traceparent", garbage)]
                await producer.send_and_wait(topic, garbage, key=key, headers=headers)


def lines_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What each service has written; all of it is JSON."""
    files = [file for file in (folder / "logs").glob("*.log") if file.stem != "kafka"]
    return {file.stem: [orjson.loads(line) for line in file.read_bytes().splitlines()] for file in files}


FOUND = "SELECT count() FROM {table:Identifier} WHERE positionCaseInsensitive(toString(tuple(*)), {word:String}) > 0"


async def test_no_table_has_a_word_of_what_was_asked_or_answered(traced: Traced) -> None:
    """Whatever became of the request: the ledger has its key, and what its caller named."""
    key = f"private-{uuid4()}"
    answer = (await traced.whole(key)).json()["choices"][0]["message"]["content"]
    failing = traced.body(metadata={"synthetic_fault": "error"})
    await traced.http.post("/v1/chat/completions", json=failing, headers={"Idempotency-Key": f"{key}-failed"})
    assert traced.stack.query_url is not None
    clickhouse = clickhouse_connect.get_client(dsn=traced.stack.query_url, database="millrace", password=PASSWORD)

    async def found(word: str, table: str = "usage") -> int:
        asked = {"table": table, "word": word}
        return int((await asyncio.to_thread(clickhouse.query, FOUND, parameters=asked)).result_rows[0][0])

    async def both() -> bool:
        return await found(key) == 2

    await until(both)
    tables = "SELECT name FROM system.tables WHERE database = 'millrace' AND engine LIKE '%MergeTree'"
    for (table,) in (await asyncio.to_thread(clickhouse.query, tables)).result_rows:
        for word in (*SECRET_WORDS.split(), answer, traced.secret):
            assert await found(word, table) == 0, table
    clickhouse.close()


async def test_logs_name_the_request_and_its_trace_and_never_quote_it(traced: Traced) -> None:
    key, trace_id = f"logged-{uuid4()}", uuid4().hex
    assert (await traced.whole(key, traceparent=f"00-{trace_id}-{CLIENT}-01")).status_code == 200
    await traced.spans_of(key, OVER_HTTP)
    await misuse(traced)

    async def refused_by_all() -> bool:
        refusing = {"analytics": "event refused", "worker": "Dead letter.", "streams": "decides"}
        found = lines_of(traced.folder)
        told = {name: [str(line["event"]) for line in lines] for name, lines in found.items()}
        workers = told.pop("worker-1") + told.pop("worker-2")
        return all(event in (told | {"worker": workers})[name] for name, event in refusing.items())

    await until(refused_by_all)
    concerned = {
        name: [line for line in lines if line.get("key") == f"acme:{key}"]
        for name, lines in lines_of(traced.folder).items()
    }
    assert {name.partition("-")[0] for name, lines in concerned.items() if lines} == {"ingress", "streams", "worker"}
    assert {line["trace_id"] for lines in concerned.values() for line in lines} == {trace_id}
    for file in (traced.folder / "logs").iterdir():
        text = file.read_text()
        for canary in (*SECRET_WORDS.split(), PASSWORD, traced.secret):
            assert canary not in text, f"{canary} in {file.name}"
