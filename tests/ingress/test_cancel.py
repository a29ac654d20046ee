"""Cancelling over HTTP, and what is written when a client hangs up."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from contracts.catalogue import Catalogue, ModelSpec, Rule
from contracts.envelope import Envelope, OnDisconnect, RequestType
from contracts.frames import Frame, FrameKind
from contracts.outcomes import Outcome
from contracts.settings import Settings
from ingress.departures import Departures
from ingress.frame import RawFrame
from tests.ingress.conftest import LIMITS
from tests.ingress.test_api import silence
from tests.support.frames import chat_answer, chat_run, hear, raw
from tests.support.ingress import CHAT, Api, chat, memory_api
from tests.support.pipeline import Asked


def cancelled(text: str, deltas: int = 0) -> RawFrame:
    """The end of a request that was cancelled when it had got that far."""
    frame = Frame(
        kind=FrameKind.FINAL,
        run="a",
        sequence=deltas,
        position=len(text),
        outcome=Outcome.CANCELLED,
        model="small",
    )
    return raw(frame, chat_answer(text, finish="cancelled"))


async def later(api: Api, client: httpx.AsyncClient, key: str) -> None:
    """A request that goes on until the test ends it."""
    api.pipeline.scenario = silence
    headers = {"Idempotency-Key": key, "Prefer": "respond-async"}
    assert (await client.post(CHAT, content=chat(key), headers=headers)).status_code == 202


async def until_cancel(api: Api) -> None:
    """The owner has the wish."""
    while not any(asked.envelope.ce_type is RequestType.CANCEL for asked in api.pipeline.asked):
        await api.pipeline.seen(len(api.pipeline.asked) + 1)


class TestDelete:
    async def test_what_runs_is_cancelled_and_its_state_tells_what_it_got_to(self, api: Api) -> None:
        async with api.http() as client, asyncio.TaskGroup() as tasks:
            await later(api, client, "c1")
            deleting = tasks.create_task(client.delete("/v1/requests/c1"))
            await until_cancel(api)
            await api.pipeline.finish(b"acme:c1", [cancelled("so far")])
            answer = await deleting
            again = await client.delete("/v1/requests/c1")
        assert answer.status_code == again.status_code == 200
        state = answer.json()
        assert (state["id"], state["status"]) == ("c1", "cancelled")
        assert state["response"]["choices"][0]["message"]["content"] == "so far"
        assert again.json() == state
        assert answer.headers["idempotency-key"] == "c1"

    async def test_what_ends_before_the_wish_is_409(self, api: Api) -> None:
        async with api.http() as client:
            await client.post(CHAT, content=chat("done"), headers={"Idempotency-Key": "c2"})
            answer = await client.delete("/v1/requests/c2")
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "request_finished"

    async def test_who_loses_the_race_learns_it(self, api: Api) -> None:
        async with api.http() as client, asyncio.TaskGroup() as tasks:
            await later(api, client, "c3")
            deleting = tasks.create_task(client.delete("/v1/requests/c3"))
            await until_cancel(api)
            frame = Frame(kind=FrameKind.FINAL, run="a", outcome=Outcome.SUCCEEDED)
            await api.pipeline.finish(b"acme:c3", [raw(frame, chat_answer("all of it"))])
            assert (await deleting).status_code == 409
            state = (await client.get("/v1/requests/c3")).json()
        assert state["status"] == "succeeded"

    async def test_what_takes_longer_than_the_wait_is_202(self, api: Api) -> None:
        async with api.http() as client:
            await later(api, client, "c4")
            answer = await client.delete("/v1/requests/c4?wait=1")
        assert answer.status_code == 202
        assert answer.json()["id"] == "c4"

    async def test_unknown_and_another_tenants_are_404(self, api: Api) -> None:
        async with api.http() as client:
            assert (await client.delete("/v1/requests/nobody")).status_code == 404

    async def test_a_key_and_a_caller_are_checked_as_everywhere(self, api: Api) -> None:
        async with api.http() as client:
            assert (await client.delete("/v1/requests/c5?wait=x")).status_code == 400
            assert (await client.delete("/v1/requests/sp%20ace")).status_code == 400
            stranger = await client.delete("/v1/requests/c5", headers={"Authorization": "Bearer nobody"})
        assert stranger.status_code == 401
        assert not api.pipeline.asked

    async def test_a_request_is_cancelled_for_its_own_tenant_only(self, api: Api) -> None:
        async with api.http() as client:
            await client.delete("/v1/requests/acme:c6?wait=1")
        assert api.pipeline.asked[0].key == b"acme:acme:c6"


class TestAnswers:
    """What those who wait for a cancelled request are told."""

    async def test_whole(self, api: Api) -> None:
        api.pipeline.scenario = lambda _: [cancelled("The mill")]
        async with api.http() as client:
            answer = await client.post(CHAT, content=chat(), headers={"Idempotency-Key": "w1"})
            again = await client.post(CHAT, content=chat(), headers={"Idempotency-Key": "w1"})
        assert answer.status_code == 200
        assert answer.headers["millrace-outcome"] == again.headers["millrace-outcome"] == "cancelled"
        choice = answer.json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("The mill", "cancelled")
        assert again.content == answer.content

    async def test_streamed(self, api: Api) -> None:
        deltas = chat_run("a", ["The ", "mill "], finish=None)
        api.pipeline.scenario = lambda _: [*deltas, cancelled("The mill by", len(deltas))]
        async with api.http() as client:
            answer = await client.post(CHAT, content=chat(stream=True))
        heard = hear(answer.content)
        assert (heard.text, heard.finish_reasons, heard.done) == ("The mill by", ["cancelled"], True)


@pytest.fixture(scope="module")
async def impatient() -> AsyncIterator[Api]:
    async with memory_api(Settings(**LIMITS | {"ingress_return_seconds": 0.0})) as (api, _):
        yield api


@pytest.fixture
def hasty(impatient: Api) -> Iterator[Api]:
    """Who hangs up there has left at once."""
    yield impatient
    impatient.reset()


async def hang_up(api: Api, body: bytes, **headers: str) -> tuple[Asked, Envelope]:
    """A client that leaves: its request's record, and what was written then."""
    api.pipeline.scenario = silence
    async with api.http(**headers) as client:
        calling = asyncio.create_task(client.post(CHAT, content=body))
        asked = (await api.pipeline.seen(1))[0]
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    left = (await api.pipeline.seen(2))[1]
    assert left.key == asked.key
    return asked, left.envelope


class TestHangUp:
    @pytest.mark.parametrize(
        ("fields", "headers", "way"),
        [
            ({"stream": True}, {}, "cancel"),
            ({}, {}, "detach"),
            ({}, {"Millrace-On-Disconnect": "cancel"}, "cancel"),
            ({"stream": True}, {"Millrace-On-Disconnect": "detach"}, "detach"),
            ({"stream": True}, {"Millrace-On-Disconnect": "drain"}, "drain"),
        ],
    )
    async def test_the_owner_is_told_who_left_and_what_it_wanted(
        self, hasty: Api, fields: dict[str, Any], headers: dict[str, str], way: OnDisconnect
    ) -> None:
        asked, left = await hang_up(hasty, chat(**fields), **headers)
        assert (left.ce_type, left.on_disconnect) == (RequestType.LEAVE, way)
        assert left.caller == asked.envelope.caller != ""

    async def test_one_who_will_come_back_for_it_is_no_caller(self, hasty: Api) -> None:
        async with hasty.http() as client:
            await later(hasty, client, "d1")
        assert not hasty.pipeline.asked[0].envelope.caller

    async def test_one_who_waits_for_anothers_request_is_a_caller(self, hasty: Api) -> None:
        async with hasty.http() as client:
            await later(hasty, client, "d2")
            count = len(hasty.pipeline.asked)
            waiting = asyncio.create_task(client.get("/v1/requests/d2?wait=5"))
            attach = (await hasty.pipeline.seen(count + 1))[count].envelope
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            left = (await hasty.pipeline.seen(count + 2))[count + 1].envelope
        assert (attach.ce_type, left.ce_type) == (RequestType.ATTACH, RequestType.LEAVE)
        assert (left.caller, left.on_disconnect) == (attach.caller, "detach")

    async def test_one_who_was_answered_has_nothing_to_leave(self, hasty: Api) -> None:
        async with hasty.http() as client:
            await client.post(CHAT, content=chat(stream=True))
            await client.get("/v1/requests/nobody")
        assert [asked.envelope.ce_type for asked in hasty.pipeline.asked] == [RequestType.REQUEST, RequestType.LOOKUP]

    async def test_an_unknown_way_is_refused(self, hasty: Api) -> None:
        async with hasty.http() as client:
            answer = await client.post(CHAT, content=chat(), headers={"Millrace-On-Disconnect": "panic"})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "Millrace-On-Disconnect"
        assert not hasty.pipeline.asked


class Written:
    """A RequestLog that only remembers."""

    reachable = True

    def __init__(self) -> None:
        self.records: list[bytes] = []

    async def append(self, key: bytes, value: bytes, headers: object) -> None:  # noqa: ARG002
        self.records.append(key)


async def test_a_leave_that_is_still_pending_when_the_process_ends_is_never_told() -> None:
    log = Written()
    departures = Departures(log, lambda ce_id, kind: {"ce_id": ce_id.encode(), "ce_type": kind.encode()}, 60)
    departures.announce(b"acme:k", "ann", "cancel")
    await departures.forget()
    assert not log.records


async def test_a_models_own_way_goes_before_the_settings() -> None:
    async with memory_api(Settings(ingress_return_seconds=0)) as (api, gateway):
        models = {"small": ModelSpec(on_disconnect="drain")}
        gateway.catalogue = Catalogue(version="t", models=models, rules=[Rule(name="all", model="small")])
        _, left = await hang_up(api, chat(stream=True))
        assert left.on_disconnect == "drain"
        api.reset()
        _, left = await hang_up(api, chat(stream=True), **{"Millrace-On-Disconnect": "cancel"})
        assert left.on_disconnect == "cancel"
