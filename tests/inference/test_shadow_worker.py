"""A worker hands on the body of what it has answered, and runs another model's for nobody to see."""

from pathlib import Path
from typing import NoReturn

import orjson
import pytest

from contracts.completion import Shadowed, ShadowWanted
from contracts.outcomes import Outcome
from contracts.settings import Settings
from tests.inference.gate import GateEngine, open_station
from tests.inference.harness import Bench, open_bench, worker_process, write_routes
from tests.inference.harness import Outcome as Ended
from tests.inference.jobs import chat

pytestmark = pytest.mark.broker
LATER = 2**53  # UTC ms


def of(bench: Bench, key: str) -> list[Ended]:
    return [one for one in bench.log.completions if one.key == key]


async def test_a_shadow_run_gives_its_place_to_whoever_asks(settings: Settings) -> None:
    engine = GateEngine()
    async with open_bench(settings) as bench, open_station(settings, engine, room=1):
        await bench.put("acme:beside", claim="0.0", lane="batch", shadow_of="large", answered="another", deadline=LATER)
        await engine.until_started(1)
        await bench.put("acme:asked", claim="0.1")
        await engine.until_started(2)
        await engine.release()
        await bench.log.answered(["acme:asked", "acme:beside"])
    assert engine.started == ["acme:beside", "acme:asked"]
    (given_up,), (answer,) = of(bench, "acme:beside"), of(bench, "acme:asked")
    assert isinstance(given_up.completion, Shadowed)
    assert given_up.completion.shadow_outcome is Outcome.CANCELLED
    assert answer.completion.outcome is Outcome.SUCCEEDED


async def test_a_shadow_run_begins_with_an_answer_and_ends_in_a_comparison(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"routes_file": write_routes(tmp_path, step_us=1000)})
    body = chat(max_tokens=8, stream=True)
    process = worker_process(settings, tmp_path)
    async with open_bench(settings) as bench:
        await process.start()
        try:
            await bench.put("acme:asked", body, claim="0.0", shadow="large")
            await bench.log.until(lambda: len(of(bench, "acme:asked")) == 2)
            answer, wanted = of(bench, "acme:asked")
            beside = {"lane": "batch", "shadow_of": "large", "answered": "another", "priority": 100}
            unstreamed = body | {"stream": False}
            await bench.put("acme:late", unstreamed, claim="0.1", deadline=1, **beside)
            await bench.put("acme:beside", unstreamed, claim="0.2", deadline=LATER, **beside)
            await bench.log.until(lambda: bool(of(bench, "acme:beside")))
            await bench.put("acme:last", chat(max_tokens=2), claim="0.3")
            await bench.log.answered(["acme:last"])
            await bench.until_committed(4)
        finally:
            await process.stop()
    assert isinstance(wanted.completion, ShadowWanted)
    assert (answer.completion.outcome, wanted.record.value) == (Outcome.SUCCEEDED, orjson.dumps(body))
    same = ("run", "answer_digest", "answer_kind", "mean_logprob", "completion_tokens", "engine_us")
    assert [getattr(wanted.completion, name) for name in same] == [getattr(answer.completion, name) for name in same]
    assert wanted.completion.answer_digest
    assert wanted.completion.mean_logprob is not None
    (ended,) = of(bench, "acme:beside")
    assert isinstance(ended.completion, Shadowed)
    assert (ended.completion.shadow_outcome, ended.record.value) == (Outcome.SUCCEEDED, b"")
    assert (ended.completion.answer_kind, ended.completion.completion_tokens) == ("text", 8)
    assert not of(bench, "acme:late"), "its time had passed"
    assert not bench.log.frames_of("acme:beside")
    assert not bench.log.dead_letters


async def test_an_answer_of_which_nothing_can_be_said_is_an_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller's body decides on what is compared: none may end the worker."""

    def fails(*_: object) -> NoReturn:
        raise TypeError

    monkeypatch.setattr("inference.generation.traits", fails)
    engine = GateEngine()
    async with open_bench(settings) as bench, open_station(settings, engine) as station:
        await bench.put("acme:asked", claim="0.0", shadow="large")
        await engine.release()
        await bench.log.until(lambda: len(of(bench, "acme:asked")) == 2)
        assert not station.died.is_set()
    answer, wanted = of(bench, "acme:asked")
    assert answer.completion.outcome is Outcome.SUCCEEDED
    assert isinstance(wanted.completion, ShadowWanted)
    assert not wanted.completion.answer_digest
