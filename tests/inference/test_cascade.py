"""A worker whose answer doesn't stand hands the request on, whole, once, and having sent nothing of it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from contracts.cascade import Cascade
from contracts.completion import ESCALATED, FirstAnswer
from contracts.settings import Settings
from inference.published import TAKEOVER
from millrace.service_process import ServiceProcess
from streams.partition import partition_of
from tests.inference.harness import Bench, Outcome, open_bench, worker_process, write_routes
from tests.inference.jobs import chat

pytestmark = pytest.mark.broker
CASCADE = Cascade(model="large", on=("unsure", "invalid", "refusal"), hold_tokens=8, hold_ms=60_000)
NEVER_MS = "600000"


def asked(logprob: float, **fields: Any) -> dict[str, Any]:
    return chat(metadata={"synthetic_logprob": str(logprob)}, max_tokens=20, **fields)


async def put(bench: Bench, key: str, body: dict[str, Any], offset: int) -> None:
    """Its claim is in the partition of its key, as on `requests`."""
    claim = f"{partition_of(key.encode(), bench.settings.request_partitions)}.{offset}"
    await bench.put(key, body, claim=claim, cascade=CASCADE.header())


def of(bench: Bench, key: str) -> Outcome:
    (found,) = (one for one in bench.log.completions if one.key == key)
    return found


@pytest.fixture
def slow(settings: Settings, tmp_path: Path) -> Settings:
    """A token each 10 ms."""
    return settings.model_copy(update={"routes_file": write_routes(tmp_path, step_us=10_000)})


@pytest.fixture
async def bench(slow: Settings) -> AsyncIterator[Bench]:
    async with open_bench(slow) as bench:
        yield bench


def worker(settings: Settings, folder: Path, name: str = "worker", **more: str) -> ServiceProcess:
    return worker_process(settings, folder, name, synthetic_faults="true", **more)


async def test_what_stands_is_the_answer_and_what_doesnt_goes_on(slow: Settings, bench: Bench, tmp_path: Path) -> None:
    bodies = {
        f"acme:{name}-{way}": asked(logprob, stream=way == "stream")
        for name, logprob in (("sure", -0.01), ("unsure", -4.0))
        for way in ("stream", "whole")
    }
    process = worker(slow, tmp_path)
    await process.start()
    try:
        for number, (key, body) in enumerate(bodies.items()):
            await put(bench, key, body, number)
        await bench.log.answered(bodies)
    finally:
        await process.stop()
    for key, body in bodies.items():
        ended, frames = of(bench, key), bench.log.frames_of(key)
        headers = dict(ended.record.headers)
        if "unsure" in key:
            assert (ended.completion.outcome, headers["escalated"]) == (ESCALATED, b"unsure")
            assert (ended.record.value, headers["cascade"]) == (orjson.dumps(body), CASCADE.header().encode())
            assert not frames, "nothing was sent"
            assert ended.completion.prompt_tokens > 0
            if "stream" in key:
                assert ended.completion.completion_tokens < 20, "it needn't go on to its end"
        else:
            assert ended.completion.outcome == "succeeded"
            assert ended.body["choices"][0]["logprobs"] is None, "who didn't ask for them isn't shown any"
            assert bool(frames) == ("stream" in key)
    assert len({one.completion.run for one in bench.log.completions}) == 4


async def test_a_crash_after_handing_on_doesnt_run_the_stream_again(
    slow: Settings, bench: Bench, tmp_path: Path
) -> None:
    """The next worker gets the record again, and finds on `completions` that there is nothing left to do."""
    first = worker(slow, tmp_path, "first", worker_commit_interval_ms=NEVER_MS)
    await first.start()
    await put(bench, "acme:before", asked(-0.01), 0)
    await bench.log.completed(1)
    await bench.until_committed(1)
    await put(bench, "acme:one", asked(-4.0, stream=True), 1)
    await bench.log.completed(2)
    first.kill()
    await first.wait()
    second = worker(slow, tmp_path, "second")
    await second.start()
    try:
        await bench.until_committed(2)
    finally:
        await second.stop()
    assert of(bench, "acme:one").completion.outcome == ESCALATED
    assert not bench.log.frames_of("acme:one"), "nothing that would silence the next model's frames"


async def test_a_crash_before_handing_on_weighs_the_answer_anew(slow: Settings, bench: Bench, tmp_path: Path) -> None:
    """Held back as it was, its client has nothing of the first run."""
    first, second = worker(slow, tmp_path, "first"), worker(slow, tmp_path, "second")
    weighed_at_the_end = CASCADE.model_copy(update={"worst_logprob": None, "hold_tokens": 1000}).header()
    await first.start()
    await bench.put("acme:beside", chat(stream=True, max_tokens=300), claim="0.0")
    late = chat(stream=True, max_tokens=200, metadata={"synthetic_logprob": "-1"})
    await bench.put("acme:one", late, claim="0.1", cascade=weighed_at_the_end)
    await bench.log.until(lambda: len(bench.log.frames_of("acme:beside")) > 9)
    first.kill()
    await first.wait()
    await second.start()
    try:
        await bench.log.answered(["acme:beside", "acme:one"])
    finally:
        await second.stop()
    assert of(bench, "acme:one").completion.outcome == ESCALATED
    assert {frame.sequence for _, frame in bench.log.frames_of("acme:one")} == {TAKEOVER}


async def test_where_the_second_model_fails_the_first_answer_is_given(
    slow: Settings, bench: Bench, tmp_path: Path
) -> None:
    first = FirstAnswer(model="tiny", model_version="1", prompt_tokens=7, completion_tokens=3, finish_reason="stop")
    second = {"attempt": 2, "escalated": "unsure", "first": first.model_dump_json(), "first_answer": '{"id": "first"}'}
    failing = {"metadata": {"synthetic_fault": "error"}, "max_tokens": 5}
    process = worker(slow, tmp_path)
    await process.start()
    try:
        await bench.put("acme:whole", chat(**failing), claim="0.0", **second)
        await bench.put("acme:stream", chat(stream=True, **failing), claim="0.1", **second)
        await bench.put("acme:alone", chat(**failing), claim="0.2", attempt=2, escalated="unsure")
        await bench.log.completed(3)
    finally:
        await process.stop()
    given, failed = of(bench, "acme:whole"), of(bench, "acme:alone")
    headers = dict(given.record.headers)
    assert (given.completion.outcome, given.body) == ("succeeded", {"id": "first"})
    assert (headers["model"], headers["fallback-from"], headers["fallback-reason"]) == (b"tiny", b"small", b"failed")
    assert (given.completion.prompt_tokens, given.completion.completion_tokens) == (7, 3)
    assert not {"first", "first-answer"} & headers.keys(), "it has arrived"
    assert failed.completion.outcome == "failed"
    streamed, told = of(bench, "acme:stream"), [frame for _, frame in bench.log.frames_of("acme:stream")]
    sent = any(frame.sequence > TAKEOVER for frame in told)
    assert (streamed.completion.outcome == "failed") is sent, "unless its client has some of the second answer"


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_second_attempts_stream_survives_its_worker(
    slow: Settings, bench: Bench, tmp_path: Path, fault: signal.Signals
) -> None:
    """It begins by taking over from whatever a first attempt may still send; and is gone on with like any other."""
    first, second = worker(slow, tmp_path, "first"), worker(slow, tmp_path, "second")
    await first.start()
    body = chat(stream=True, max_tokens=200)
    await bench.put("acme:one", body, claim="0.0", attempt=2, escalated="unsure", deadline=1)
    await bench.log.until(lambda: len(bench.log.frames_of("acme:one")) > 3)
    assert first.pid is not None
    os.kill(first.pid, fault)
    await second.start()
    try:
        await bench.log.answered(["acme:one"], seconds=60)
    finally:
        if fault is signal.SIGSTOP:
            os.kill(first.pid, signal.SIGCONT)
        await asyncio.gather(first.stop(), second.stop())
    frames = bench.log.frames_of("acme:one")
    takeover = frames[0][1]
    assert (takeover.sequence, takeover.escalated) == (TAKEOVER, "unsure")
    ended = next(one for one in bench.log.completions if one.key == "acme:one")
    assert (ended.completion.outcome, ended.completion.completion_tokens) == ("succeeded", 200), "its deadline was met"
    assert {frame.run for _, frame in frames} >= {takeover.run, ended.completion.run}
