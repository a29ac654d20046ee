"""A stream survives its worker: the next one goes on from what was published, where a model would say other words."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from contracts.frames import Frame, FrameKind
from contracts.settings import EngineName, Settings
from inference.engine import Finish, Job, Step
from ingress.frame import RawFrame
from ingress.stream import AnswerStream
from millrace.service_process import ServiceProcess
from tests.inference.gate import open_station
from tests.inference.harness import Bench, open_bench, worker_process, write_routes
from tests.inference.harness import Outcome as Ended
from tests.inference.jobs import chat
from tests.support.frames import Heard, hear

pytestmark = pytest.mark.broker
TOKENS = 100
STREAMS = 12


@dataclass
class Two:
    """The worker that has the streams, and the one that shall have them."""

    first: ServiceProcess
    second: ServiceProcess

    async def kill(self) -> None:
        self.first.kill()
        await self.first.wait()
        await self.second.start()

    async def terminate(self) -> None:
        await self.first.stop()
        await self.second.start()

    async def freeze(self) -> None:
        self.signal_first(signal.SIGSTOP)
        await self.second.start()

    def signal_first(self, number: signal.Signals) -> None:
        assert self.first.pid is not None
        os.kill(self.first.pid, number)


@pytest.mark.parametrize("fault", [Two.kill, Two.terminate, Two.freeze])
async def test_what_a_client_was_sent_is_how_the_answer_begins(
    settings: Settings, tmp_path: Path, fault: Callable[[Two], Awaitable[None]]
) -> None:
    settings = settings.model_copy(update={"routes_file": write_routes(tmp_path, step_us=40_000)})
    own = {"synthetic_sampling": "true", "worker_drain_seconds": "0.1"}
    two = Two(worker_process(settings, tmp_path, "first", **own), worker_process(settings, tmp_path, "second", **own))
    names = [f"acme:k{number}" for number in range(STREAMS)]
    async with open_bench(settings) as bench:
        await two.first.start()
        for number, name in enumerate(names):
            body = chat(f"{number}", max_tokens=TOKENS, stream=True, temperature=0.7)
            await bench.put(name, body, claim=f"0.{number}")
        await bench.log.until(lambda: len(bench.log.frames) >= 3 * STREAMS)
        await fault(two)
        if fault is Two.freeze:
            await bench.log.completed(1)
            two.signal_first(signal.SIGCONT)
        await bench.log.answered(names, seconds=60)
        await bench.put("acme:last", claim="0.99")
        await bench.log.answered(["acme:last"], seconds=60)
        await two.second.stop()
        if fault is Two.freeze:
            await two.first.stop()
    for name in names:
        answer = next(one for one in bench.log.completions if one.key == name)
        heard = client(bench, name, answer)
        assert (heard.error, heard.done, heard.text) == (None, True, answer.text)
        assert answer.completion.completion_tokens == TOKENS == len(answer.text.split())
        assert answer.completion.position == len(answer.text)
    assert went_on(bench, names)


class TalkEngine:
    """Says two words of its own of each answer, and the rest when the test lets it."""

    name: EngineName = "synthetic"
    capacity: int | None = None

    def __init__(self, voice: str, *, continues: bool) -> None:
        self._voice = voice
        self._continues = continues
        self._go_on = asyncio.Event()
        self.jobs: list[Job] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def continues(self, job: Job) -> bool:  # noqa: ARG002
        return self._continues

    def go_on(self) -> None:
        self._go_on.set()

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        self.jobs.append(job)
        begun = job.prefix.tokens if job.prefix else 0
        for number in range(begun, 6):
            if number == begun + 2:
                await self._go_on.wait()
            word = f"{self._voice}{number} "
            sure = {"content": [{"token": word, "logprob": -0.1}]}
            yield Step(word, 1, Finish("stop", 1, 6) if number == 5 else None, logprobs=sure)


@pytest.mark.parametrize("continues", [True, False])
async def test_streams_whose_partition_moves_go_on_at_the_other_and_end_here(
    settings: Settings, continues: bool
) -> None:
    """Where the engine can't go on (a grammar, say) it begins anew, and a client that has other words is told so."""
    first, second = TalkEngine("a", continues=continues), TalkEngine("b", continues=continues)
    names = [f"acme:k{number}" for number in range(8)]
    async with open_bench(settings) as bench, AsyncExitStack() as stack:
        await stack.enter_async_context(open_station(settings, first, worker="first"))
        for number, name in enumerate(names):
            await bench.put(name, chat(f"{number}", stream=True), partition=number % 4, claim=f"0.{number}")
        await bench.log.until(lambda: all(said(bench, name) == 2 for name in names))
        await stack.enter_async_context(open_station(settings, second, worker="second"))
        words = 4 if continues else 2
        await bench.log.until(lambda: sum(has_said(bench, name, "second", words) for name in names) == 4)
        first.go_on()
        second.go_on()
        await bench.log.answered(names)
        await bench.until_committed(8)
    assert len(bench.log.completions) == 8
    moved = "a0 a1 b2 b3 b4 b5 " if continues else "b0 b1 b2 b3 b4 b5 "
    assert sorted(one.text for one in bench.log.completions) == 4 * ["a0 a1 a2 a3 a4 a5 "] + 4 * [moved]
    for answer in bench.log.completions:
        heard = client(bench, answer.key, answer)
        assert answer.completion.completion_tokens == 6
        sure = answer.body["choices"][0]["logprobs"]["content"]
        assert "".join(one["token"] for one in sure) == answer.text
        if answer.text.startswith("a"):
            assert (heard.error, heard.text) == (None, answer.text)
        else:
            assert heard.error
            assert (heard.error["code"], heard.text, heard.done) == ("stream_diverged", "a0 a1 ", False)
    assert {job.prefix.text if job.prefix else "" for job in second.jobs} == {"a0 a1 " if continues else ""}


def said(bench: Bench, name: str) -> int:
    """Words published."""
    return max((frame.completion_tokens for _, frame in bench.log.frames_of(name)), default=0)


def has_said(bench: Bench, name: str, worker: str, words: int) -> bool:
    """It was the last one to say something, and that is how much there is of the answer now."""
    last = bench.log.frames_of(name)[-1][1]
    return last.run.startswith(f"{worker}.") and last.completion_tokens == words


def client(bench: Bench, name: str, answer: Ended) -> Heard:
    """Who reads the frames in their order, then the final one as settle writes it of the first outcome."""
    stream = AnswerStream()
    ended = answer.completion
    final = Frame(kind=FrameKind.FINAL, run=ended.run, sequence=ended.sequence, position=ended.position)
    deltas = [RawFrame(dict(record.headers), record.value) for record, _ in bench.log.frames_of(name)]
    events = [stream.feed(frame) for frame in deltas]
    return hear(b"".join(events) + stream.feed(RawFrame(dict(final.to_headers()), answer.record.value)))


def went_on(bench: Bench, names: list[str]) -> list[str]:
    """Those whose second run began in the middle."""
    firsts = {name: [frame for record, frame in bench.log.frames_of(name) if frame.sequence == 1] for name in names}
    return [name for name, runs in firsts.items() if len(runs) > 1 and runs[-1].position > len("[synthetic] ")]
