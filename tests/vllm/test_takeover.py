"""A lost worker's stream goes on at the next one: by the sampled tokens themselves, to the letter."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from contracts.catalogue import ModelSpec
from contracts.settings import Settings
from inference.answer import Answer
from inference.engine import Engine, Job, Prefix, Step
from inference.engines.openai import OpenAIEngine
from inference.engines.vllm import VllmEngine
from tests.inference.harness import open_bench, worker_process
from tests.inference.jobs import chat, collect, make_job
from tests.inference.test_takeover import client, went_on
from tests.vllm.conftest import CPU, READY_SECONDS
from tests.vllm.test_engine import greedy

TOKENS = 40


def begun(steps: Sequence[Step], count: int) -> Prefix:
    """What was published with the first so many steps."""
    said = steps[:count]
    ids = [token for step in said for token in step.token_ids]
    return Prefix("".join(step.text for step in said), sum(step.tokens for step in said), tuple(ids) or None)


async def go_on(engine: Engine, job: Job, prefix: Prefix) -> Answer:
    whole = Answer(texts=[prefix.text])
    for step in await collect(engine, replace(job, prefix=prefix)):
        whole.add(step)
    return whole


@pytest.mark.parametrize("kind", ["plain", "minimum"])
async def test_cut_anywhere_it_says_the_same(engine: VllmEngine, kind: str) -> None:
    for prompt in ("The wheel turns", "Sacks of flour", "Water over stone"):
        more = {"min_tokens": 20} if kind == "minimum" else {}
        job = make_job(greedy(prompt, TOKENS, stream=True, **more))
        steps = await collect(engine, job)
        last = steps[-1].finish
        assert last is not None
        cuts = [begun(steps, count) for count in range(1, len(steps))]
        answers = await asyncio.gather(*(go_on(engine, job, prefix) for prefix in cuts if prefix.text))
        assert {one.text for one in answers} == {"".join(step.text for step in steps)}
        finishes = [one.finish for one in answers if one.finish]
        assert {finish.reason for finish in finishes} == {last.reason}
        assert {finish.prompt_tokens for finish in finishes} == {last.prompt_tokens}
        assert {finish.completion_tokens for finish in finishes} == {last.completion_tokens}


async def test_what_a_stop_string_held_back_is_said_anew(engine: VllmEngine) -> None:
    job = make_job(greedy("The wheel turns", TOKENS, stream=True, stop=["never said"]))
    steps = await collect(engine, job)
    cuts = [prefix for count in range(1, len(steps)) if (prefix := begun(steps, count)).text]
    answers = await asyncio.gather(*(go_on(engine, job, prefix) for prefix in cuts))
    assert all(one.text.startswith(prefix.text) for one, prefix in zip(answers, cuts, strict=True))
    assert {one.finish.completion_tokens for one in answers if one.finish} == {TOKENS}


async def test_without_token_ids_it_goes_on_after_the_text(engine: VllmEngine) -> None:
    job = make_job(greedy("The wheel turns", TOKENS, stream=True))
    prefix = Prefix("The miller said", 3)
    answer = await go_on(engine, job, prefix)
    assert answer.text.startswith(prefix.text)
    assert answer.finish
    assert answer.finish.completion_tokens == TOKENS


async def test_where_nothing_is_left_to_say_the_engine_isnt_asked(engine: VllmEngine) -> None:
    job = make_job(greedy("The wheel turns", TOKENS, stream=True))
    steps = await collect(engine, job)
    [step] = await collect(engine, replace(job, prefix=begun(steps, len(steps))))
    assert step.finish
    assert (step.text, step.finish.reason, step.finish.completion_tokens) == ("", "length", TOKENS)


async def test_a_grammar_isnt_entered_in_its_middle(engine: VllmEngine) -> None:
    assert engine.continues(make_job(greedy("Plain")))
    assert not engine.continues(make_job(greedy("Fields", response_format={"type": "json_object"})))


@pytest.mark.parametrize("text_completion", [False, True])
async def test_vllm_serve_goes_on_too(server: str, text_completion: bool) -> None:
    settings = Settings(openai_base_url=f"{server}/v1", openai_continues=True)
    body = {"model": "small", "prompt": "The wheel", "temperature": 0, "ignore_eos": True, "max_tokens": TOKENS}
    job = make_job((body if text_completion else greedy("The wheel", TOKENS)) | {"stream": True})
    upstream = OpenAIEngine("small", ModelSpec(source="tiny"), settings)
    try:
        steps = await collect(upstream, job)
        assert upstream.continues(job)
        prefix = begun(steps, len(steps) // 2)
        assert 0 < prefix.tokens < TOKENS
        answer = await go_on(upstream, job, prefix)
    finally:
        await upstream.close()
    assert answer.finish
    assert answer.finish.completion_tokens == TOKENS
    assert abs(answer.finish.prompt_tokens - (steps[-1].finish or answer.finish).prompt_tokens) <= prefix.tokens


async def test_kill_9_of_a_worker_that_samples(settings: Settings, tiny_model: Path, tmp_path: Path) -> None:
    routes = tmp_path / "routes.toml"
    routes.write_text(
        f'version = "test"\n[models.small]\nsource = "{tiny_model}"\n[[rules]]\nname = "all"\nmodel = "small"\n'
    )
    settings = settings.model_copy(update={"routes_file": routes})
    own = {"worker_engine": "vllm", "vllm_dtype": "float32", "vllm_gpu_memory_utilization": "0.3"}
    first, second = (
        worker_process(
            settings, tmp_path, name, environment=CPU, ready_seconds=READY_SECONDS, vllm_enforce_eager="true", **own
        )
        for name in ("first", "second")
    )
    names = [f"acme:k{number}" for number in range(6)]
    async with open_bench(settings) as bench:
        await first.start()
        for number, name in enumerate(names):
            body = chat(f"{number}", max_tokens=800, stream=True, temperature=1.0, ignore_eos=True)
            await bench.put(name, body, claim=f"0.{number}")
        await bench.log.until(lambda: all(len(bench.log.frames_of(name)) >= 5 for name in names), 120)
        family = psutil.Process(first.pid).children(recursive=True)
        first.kill()
        await first.wait()
        for orphan in psutil.wait_procs(family, timeout=10)[1]:
            orphan.kill()
        await second.start()
        await bench.log.answered(names, seconds=120)
        await second.stop()
        for name in names:
            answer = next(one for one in bench.log.completions if one.key == name)
            heard = client(bench, name, answer)
            assert (heard.error, heard.done, heard.text) == (None, True, answer.text)
            assert answer.completion.completion_tokens == 800
        assert went_on(bench, names)
