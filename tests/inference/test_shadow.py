"""Shadow runs in a worker: last in line, out of the way at once, and never twice."""

import asyncio
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord

from contracts.completion import Completion, Shadowed, ShadowWanted
from contracts.control import ControlType
from contracts.outcomes import Outcome
from contracts.settings import Settings
from inference.engine import EngineStalled
from inference.generation import Assignment
from inference.lane import Lane, Ticket, open_lanes
from inference.orders import Orders
from inference.shadow import Shadows
from inference.solitude import Solitude
from inference.spans import Serving
from tests.inference.jobs import chat, work_headers

BODY = orjson.dumps(chat())


def record(key: str = "acme:k", **headers: Any) -> ConsumerRecord:
    made = work_headers(BODY, key=key, lane="batch", **headers)
    return ConsumerRecord("work.small.batch", 0, 0, 0, 0, key.encode(), BODY, None, 0, 0, tuple(made))


def shadow(key: str = "acme:k", claim: str = "0.0") -> ConsumerRecord:
    return record(key, claim=claim, shadow_of="large", answered="digest")


class Engine:
    """A generator whose runs end when they are told to."""

    def __init__(self) -> None:
        self.orders = Orders()
        self.runs = 0
        self.end = asyncio.Event()
        self.error: Exception | None = None

    async def run(self, assignment: Assignment) -> tuple[Completion, bytes]:
        self.runs += 1
        ended = Outcome.SUCCEEDED

        def abort() -> None:
            nonlocal ended
            ended = Outcome.CANCELLED
            self.end.set()

        with self.orders.of(assignment.ordered_as) as order, order.obeyed_by(abort):
            await self.end.wait()
        if self.error:
            raise self.error
        return Completion(outcome=ended, run="r1", finished_at=1, answer_digest="d"), b"{}"


class Way:
    def __init__(self) -> None:
        self.said: list[ShadowWanted | Shadowed] = []

    async def beside(self, record: ConsumerRecord, said: ShadowWanted | Shadowed) -> None:  # noqa: ARG002
        self.said.append(said)


class Rig:
    def __init__(self, most: int = 1) -> None:
        self.engine, self.way, self.solitude = Engine(), Way(), Solitude()
        self.lanes: dict[Any, Lane] = dict(open_lanes("small", Settings()))
        self.shadows = Shadows(self.engine, self.way, self.solitude, self.lanes.values(), most)  # type: ignore[arg-type]

    def wait(self, record: ConsumerRecord) -> None:
        self.lanes["batch"].put(Ticket.of(record, self.lanes["batch"]))

    def begin(self, *, again: bool = False) -> "asyncio.Task[Completion | None]":
        return asyncio.create_task(self.shadows.run(Assignment.parse(shadow()), Serving(shadow()), again=again))


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_it_runs_while_nothing_else_waits(rig: Rig) -> None:
    rig.wait(shadow("acme:other", "0.1"))
    task = rig.begin()
    rig.engine.end.set()
    ended = await task
    assert ended is not None
    await rig.shadows.tell(Serving(shadow()), ended)
    (said,) = rig.way.said
    assert isinstance(said, Shadowed)
    assert (said.outcome, said.shadow_outcome, said.answer_digest) == ("shadowed", Outcome.SUCCEEDED, "d")


async def test_it_is_left_out_while_anything_else_waits_and_after_a_crash(rig: Rig) -> None:
    assert await rig.begin(again=True) is None
    rig.wait(record())
    assert await rig.begin() is None
    assert rig.engine.runs == 0


async def test_it_gives_way_as_soon_as_something_else_waits(rig: Rig) -> None:
    task = rig.begin()
    await asyncio.sleep(0)
    rig.shadows.give_way()
    assert not rig.engine.end.is_set(), "nothing waits"
    rig.wait(record())
    rig.shadows.give_way()
    ended = await task
    assert ended is not None
    assert ended.outcome is Outcome.CANCELLED, "what it has used is told"


async def test_no_more_run_than_may(rig: Rig) -> None:
    task = rig.begin()
    await asyncio.sleep(0)
    assert await rig.begin() is None
    rig.engine.end.set()
    await task
    assert rig.engine.runs == 1


async def test_a_hang_is_nobodys_loss(rig: Rig) -> None:
    rig.engine.error = EngineStalled("It hangs.")
    rig.engine.end.set()
    assert await rig.begin() is None
    rig.engine.error = None
    assert await rig.begin() is not None


async def test_its_requests_cancellation_is_not_for_it(rig: Rig) -> None:
    task = rig.begin()
    await asyncio.sleep(0)
    rig.engine.orders._take("0.0", ControlType.ABORT)
    assert not rig.engine.end.is_set()
    rig.engine.end.set()
    await task


@pytest.mark.parametrize(
    ("headers", "outcome", "wanted"),
    [
        ({"shadow": "large"}, Outcome.SUCCEEDED, True),
        ({"shadow": "large"}, Outcome.FAILED, False),
        ({"shadow": "large"}, Outcome.CANCELLED, False),
        ({}, Outcome.SUCCEEDED, False),
    ],
)
async def test_only_what_answered_has_one(rig: Rig, headers: dict[str, str], outcome: Outcome, *, wanted: bool) -> None:
    asked = record(**headers)
    ended = Completion(outcome=outcome, run="r1", finished_at=1, answer_digest="d", completion_tokens=4)
    await rig.shadows.want(Assignment.parse(asked), Serving(asked), ended)
    assert [(said.run, said.completion_tokens) for said in rig.way.said] == ([("r1", 4)] if wanted else [])


def test_it_asks_for_no_share_of_its_tenants() -> None:
    lane = open_lanes("small", Settings())["batch"]
    ticket, real = Ticket.of(shadow(), lane), Ticket.of(record(claim="0.0"), lane)
    assert (ticket.shadow, ticket.tenant, ticket.tokens) == (True, "", 0)
    assert ticket.identity != real.identity
    assert not lane.wanted
    lane.put(ticket)
    assert not lane.wanted
    lane.put(real)
    assert lane.wanted
    lane.clear()
    assert not lane.wanted


def test_it_isnt_weighed_by_a_cascade_but_its_tokens_are_told() -> None:
    job = Assignment.parse(shadow()).job()
    assert (job.weighed, job.stream, job.lane) == (True, False, "batch")
    assert Assignment.parse(record(shadow="large")).job().weighed
    assert not Assignment.parse(record()).job().weighed
