"""The synthetic engine answers right or wrong by a file, and is less sure of what it has wrong."""

from pathlib import Path
from statistics import fmean

import orjson
import pytest

from contracts.catalogue import AnswerFile, ModelSpec, SyntheticTiming
from contracts.errors import ConfigError
from contracts.settings import Settings
from inference.engines.synthetic import SyntheticEngine
from tests.inference.jobs import INSTANT, chat, collect, make_job


def spec(folder: Path, **fields: object) -> ModelSpec:
    rows = [{"prompt": f"question {number}", "weak_correct": number % 2 == 0} for number in range(100)]
    file = folder / "answers.jsonl"
    file.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    given = AnswerFile(file=file, field="weak_correct", wrong_mean_logprob=-0.6)
    return ModelSpec(synthetic=SyntheticTiming(**INSTANT.model_dump() | {"answers": given} | fields))


async def answer(engine: SyntheticEngine, question: str) -> tuple[str, list[float]]:
    job = make_job(chat(question, max_tokens=20))
    job = type(job)(**{name: getattr(job, name) for name in type(job).__slots__} | {"weighed": True})
    steps = await collect(engine, job)
    return steps[-1].text.split()[1], [value for step in steps for value in step.token_logprobs]


async def test_the_second_word_says_whether_it_is_right(tmp_path: Path) -> None:
    engine = SyntheticEngine("small", spec(tmp_path), Settings())
    assert (await answer(engine, "question 4"))[0] == "right"
    assert (await answer(engine, "question 5"))[0] == "wrong"
    assert (await answer(engine, "something else"))[0] not in ("right", "wrong")


async def test_it_is_less_sure_of_what_is_wrong(tmp_path: Path) -> None:
    engine = SyntheticEngine("small", spec(tmp_path, mean_logprob=-0.2, logprob_spread=0.3), Settings())
    said = [await answer(engine, f"question {number}") for number in range(100)]
    right, wrong = ([fmean(sure) for word, sure in said if word == which] for which in ("right", "wrong"))
    assert fmean(wrong) < -0.4 < -0.3 < fmean(right) < 0
    assert all(len(sure) == 20 for _, sure in said)
    assert said[7] == await answer(engine, "question 7"), "the same again"


async def test_a_file_that_isnt_one_is_refused(tmp_path: Path) -> None:
    wrong = spec(tmp_path)
    assert wrong.synthetic.answers is not None
    wrong.synthetic.answers.file.write_text('{"prompt": "without more"}')
    with pytest.raises(ConfigError, match="weak_correct"):
        SyntheticEngine("small", wrong, Settings())
