"""A first attempt's stream is held back until it is known that it stands, and then nothing takes it back."""

import asyncio
from collections.abc import Sequence

from contracts.cascade import Cascade
from inference.answer import Answer
from inference.engine import CANCELLED, Finish, Job, Step
from inference.trial import Trial
from tests.inference.jobs import chat, make_job

CASCADE = Cascade(model="large", stretch_tokens=2, hold_tokens=4, hold_ms=60_000)
SURE, UNSURE = -0.1, -5.0
END = Finish("stop", 5, 5)


class Reader:
    """Of what was sent."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.came = asyncio.Event()

    async def take(self, step: Step) -> None:
        self.texts.append(step.text)
        self.came.set()


class Attempt:
    def __init__(
        self, cascade: Cascade = CASCADE, *, streamed: bool = True, deadline: int | None = None, now: int = 0
    ) -> None:
        job = make_job(chat())
        self.job = Job(**{name: getattr(job, name) for name in Job.__slots__} | {"deadline": deadline})
        self.answer = Answer()
        self.reader = Reader()
        self.trial = Trial(cascade, self.job, self.answer, lambda: now, self.reader.take if streamed else None)

    async def say(self, text: str, logprobs: Sequence[float], finish: Finish | None = None) -> bool:
        step = Step(text, len(logprobs), finish, token_logprobs=logprobs)
        self.answer.add(step)
        return await self.trial.take(step)


async def test_nothing_is_sent_before_the_gate_is_passed_and_then_everything_in_order() -> None:
    attempt = Attempt()
    async with attempt.trial:
        assert await attempt.say("a", [SURE, SURE])
        assert attempt.reader.texts == []
        assert await attempt.say("b", [SURE, SURE])
        assert attempt.reader.texts == ["a", "b"]
        assert await attempt.say("c", [UNSURE] * 9), "what follows stands, whatever it is"
        assert await attempt.say("d", [UNSURE], END)
    assert attempt.reader.texts == ["a", "b", "c", "d"]
    assert attempt.trial.doubt is None


async def test_a_lost_answer_is_given_up_at_once_and_unsent() -> None:
    attempt = Attempt()
    async with attempt.trial:
        assert await attempt.say("a", [SURE])
        assert not await attempt.say("b", [UNSURE, UNSURE])
    assert attempt.trial.doubt == "unsure"
    assert attempt.reader.texts == []


async def test_an_end_within_the_bounds_is_weighed_as_a_whole() -> None:
    attempt = Attempt()
    async with attempt.trial:
        assert not await attempt.say("a", [SURE], Finish("length", 5, 1))
    assert attempt.trial.doubt == "length"


async def test_what_is_held_back_for_too_long_stands() -> None:
    attempt = Attempt(CASCADE.model_copy(update={"hold_ms": 1}))
    async with attempt.trial:
        assert await attempt.say("a", [SURE])
        async with asyncio.timeout(30):
            await attempt.reader.came.wait()
        assert await attempt.say("b", [UNSURE, UNSURE], END)
    assert attempt.reader.texts == ["a", "b"]


async def test_an_answer_that_isnt_streamed_is_weighed_to_its_end() -> None:
    attempt = Attempt(streamed=False)
    async with attempt.trial:
        assert await attempt.say("a", [SURE] * 50)
        assert not await attempt.say("b", [UNSURE] * 2)
    assert attempt.trial.doubt == "unsure"


async def test_near_the_deadline_the_first_answer_stands() -> None:
    attempt = Attempt(streamed=False, deadline=1000, now=500)
    async with attempt.trial:
        assert await attempt.say("a", [UNSURE] * 5, END)
    assert attempt.trial.doubt is None


async def test_a_cancelled_answer_goes_to_nobody_else() -> None:
    attempt = Attempt()
    async with attempt.trial:
        assert await attempt.say("a", [UNSURE], Finish(CANCELLED, 5, 1))
    assert attempt.trial.doubt is None
    assert attempt.reader.texts == ["a"]
