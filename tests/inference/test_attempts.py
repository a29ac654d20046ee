"""Tries across crashes: requests that kill or hang their worker, and the innocent beside them."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import pytest

from contracts.dead_letter import DeadLetter
from contracts.outcomes import Outcome
from contracts.settings import Settings
from inference.attempts import Trail
from inference.engine import Job, Step
from tests.inference.gate import GateEngine, open_station
from tests.inference.harness import MODEL, Bench, open_bench, worker_process, write_routes
from tests.inference.jobs import chat
from tests.support.until import until

ROOM = 16
END = 1_000_000


def test_a_worker_that_left_is_no_crash() -> None:
    trail = Trail.take_over(Trail().text(10, 14, held=False), 10, END, ROOM)
    assert (trail.died, trail.tries(10), trail.tries(13)) == (False, 0, 0)


def test_after_a_crash_what_may_have_been_in_flight_has_one_try_behind_it() -> None:
    trail = Trail.take_over(Trail().text(10, 14, held=True), 10, 500, ROOM)
    assert trail.died
    assert [trail.tries(offset) for offset in (10, 13, 20, 499, 500)] == [1, 1, 1, 1, 0]


def test_only_what_was_marked_before_it_started_is_counted_again() -> None:
    trail = Trail.take_over(Trail().text(10, 14, held=True), 10, 500, ROOM)
    trail.start(10)
    trail.start(11)
    trail.start(12)
    trail.finish(11)
    again = Trail.take_over(trail.text(10, 14, held=True), 10, 500, ROOM)
    assert [again.tries(offset) for offset in (10, 11, 12, 13)] == [2, 1, 2, 1]
    again.start(12)
    left = Trail.take_over(again.text(10, 14, held=False), 10, 500, ROOM)
    assert [left.tries(offset) for offset in (10, 12)] == [2, 2]
    last = Trail.take_over(again.text(10, 14, held=True), 10, 500, ROOM)
    assert [last.tries(offset) for offset in (10, 12)] == [2, 3]


def test_hangs_are_counted_in_the_text_and_outlive_the_worker() -> None:
    trail = Trail()
    trail.hang(12)
    trail.hang(12)
    trail.hang(14)
    trail.finish(14)
    for held in (False, True):  # left, or died
        again = Trail.take_over(trail.text(10, 20, held=held), 10, 500, ROOM)
        assert [again.spent(offset, 3) for offset in (11, 12)] == [int(held), 2]
    again.hang(12)
    assert again.spent(12, 3) == 3


def test_that_it_was_beside_a_crash_is_never_the_last_try() -> None:
    """Two hangs, and then its worker dies: perhaps for another request. It is tried once more, alone."""
    trail = Trail()
    trail.hang(12)
    trail.hang(12)
    suspected = Trail.take_over(trail.text(10, 20, held=True), 10, 500, ROOM)
    assert (suspected.tries(12), suspected.spent(12, 3)) == (1, 2)
    suspected.start(12)
    dead = Trail.take_over(suspected.text(10, 20, held=True), 10, 500, ROOM)
    assert dead.spent(12, 3) >= 3


def test_the_text_moves_with_the_position_and_fits() -> None:
    trail = Trail(below=10_000_000_000)
    for offset in range(9_999_990_000, 9_999_992_000):
        trail.start(offset)
    text = trail.text(9_999_990_000, 9_999_999_999, held=True)
    assert len(text) <= 4096
    assert Trail.take_over(text, 9_999_990_000, END**2, ROOM).tries(9_999_990_001) == 2


@pytest.mark.parametrize(
    "text", ["", "somebody's own note", "[]", '{"tries": 7}', '{"tries": [[1]]}', '{"below": "x"}']
)
def test_a_text_of_somebody_else_counts_nothing(text: str) -> None:
    assert Trail.take_over(text, 5, 10, ROOM).tries(5) == 0


async def start_over_and_over(settings: Settings, folder: Path, bench: Bench, wanted: list[str]) -> int:
    """Workers one after another, each with a name of its own, until all is answered. Returns how many died."""
    died = 0
    answered = asyncio.create_task(bench.log.answered(wanted, seconds=90))
    while not answered.done():
        worker = worker_process(settings, folder, f"worker-{died}", synthetic_faults="true")
        await worker.start()
        ended = asyncio.create_task(worker.wait())
        await asyncio.wait({ended, answered}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await worker.stop()
            break
        died += 1
    await answered
    return died


@pytest.mark.broker
async def test_a_request_that_kills_its_workers_is_given_up_and_its_neighbours_go_on(
    settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"routes_file": write_routes(tmp_path, step_us=5000)})
    names = [f"acme:k{number}" for number in range(8)]
    async with open_bench(settings) as bench:
        for number, name in enumerate(names):
            metadata = {"metadata": {"synthetic_fault": "crash"}} if number == 3 else {}
            await bench.put(name, chat(str(number), max_tokens=40, **metadata), partition=0, claim=f"0.{number}")
        assert await start_over_and_over(settings, tmp_path, bench, names) == 3
        await bench.until_committed(8)
        await bench.log.until(lambda: len(bench.log.dead_letters) == 1)
        outcomes = {one.key: one for one in bench.log.completions}
        [letter] = bench.log.dead_letters
    assert outcomes[names[3]].completion.outcome is Outcome.FAILED
    assert outcomes[names[3]].body["error"]["code"] == "attempts_exhausted"
    assert {outcomes[name].completion.outcome for name in names if name != names[3]} == {Outcome.SUCCEEDED}
    why = DeadLetter.from_headers(letter.headers)
    assert (letter.key, why.dead_letter_attempts, why.dead_letter_offset) == (names[3].encode(), 3, 3)
    assert (why.dead_letter_outcome, why.dead_letter_stage) == ("failed", "worker")


@pytest.mark.broker
@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_request_that_hangs_is_tried_again_then_given_up(settings: Settings, attempts: int) -> None:
    settings = settings.model_copy(update={"worker_stall_seconds": 0.3, "worker_max_attempts": attempts})
    engine = GateEngine()
    await engine.release("acme:fine")
    async with open_bench(settings) as bench, open_station(settings, engine):
        await bench.put("acme:hangs", partition=0)
        await bench.put("acme:fine", partition=0, claim="0.1")
        await bench.log.answered(["acme:hangs", "acme:fine"])
        await bench.until_committed(2)
        outcomes = {one.key: one.completion.outcome for one in bench.log.completions}
        [letter] = bench.log.dead_letters
    assert outcomes == {"acme:hangs": Outcome.FAILED, "acme:fine": Outcome.SUCCEEDED}
    assert engine.started.count("acme:hangs") == attempts
    why = DeadLetter.from_headers(letter.headers)
    assert (letter.key, why.dead_letter_attempts) == (b"acme:hangs", attempts)
    assert (why.dead_letter_topic, why.dead_letter_offset) == (bench.topics.work(MODEL, "interactive"), 0)
    assert f"tried {attempts} times" in why.dead_letter_reason


@pytest.mark.broker
async def test_hangs_are_counted_across_workers(settings: Settings) -> None:
    """The first worker sees two, and leaves; the second one sees the third."""
    settings = settings.model_copy(update={"worker_stall_seconds": 0.3})
    async with open_bench(settings) as bench:
        first, second = HangsTwice(), GateEngine()
        async with open_station(settings, first):
            await bench.put("acme:hangs", partition=0)
            await until(partial(_has_started, first, 3))
        async with open_station(settings, second):
            await bench.log.answered(["acme:hangs"])
            await bench.until_committed(1)
        [letter] = bench.log.dead_letters
    assert DeadLetter.from_headers(letter.headers).dead_letter_attempts == 3
    assert second.started == ["acme:hangs"]


class HangsTwice(GateEngine):
    """Then it lives, and never ends."""

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        self.started.append(job.key)
        while len(self.started) > 2:
            yield Step("word", 1)
            await asyncio.sleep(0.02)
        await asyncio.Event().wait()


async def _has_started(engine: GateEngine, times: int) -> bool:
    return len(engine.started) == times


@pytest.mark.broker
async def test_records_of_one_key_without_a_claim_are_not_one_run(settings: Settings) -> None:
    """They aren't work that route would write: each is put aside."""
    async with open_bench(settings) as bench, open_station(settings, GateEngine()):
        for _ in range(2):
            await bench.put("acme:odd", partition=0, claim="")
        await bench.log.until(lambda: len(bench.log.dead_letters) == 2)
        await bench.until_committed(2)


@pytest.mark.broker
async def test_steps_that_keep_coming_are_no_hang(settings: Settings, tmp_path: Path) -> None:
    routes = write_routes(tmp_path, step_us=50_000)
    settings = settings.model_copy(update={"routes_file": routes})
    async with open_bench(settings) as bench:
        worker = worker_process(settings, tmp_path, worker_stall_seconds="0.5")
        await worker.start()
        await bench.put("acme:long", chat(max_tokens=30, stream=True))  # 1.5 s
        [outcome] = await bench.log.completed(1)
        await worker.stop()
    assert outcome.completion.outcome is Outcome.SUCCEEDED


def test_what_finished_out_of_order_is_told_as_far_as_there_is_space() -> None:
    trail = Trail.take_over(Trail().text(10, 30, held=True, done=[9, 12, 13, 14, 20]), 10, 500, ROOM)
    assert trail.done == [12, 13, 14, 20]
    many = Trail(below=10_000_000_000)
    for offset in range(9_999_990_000, 9_999_990_600, 2):
        many.start(offset)
    text = many.text(9_999_990_000, 9_999_999_999, held=True, done=range(9_999_990_001, 9_999_999_999, 2))
    assert len(text) <= 4096
    done = Trail.take_over(text, 9_999_990_000, END**2, ROOM).done
    assert done == list(range(9_999_990_001, done[-1] + 1, 2))
