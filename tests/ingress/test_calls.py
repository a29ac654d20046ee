import asyncio

import pytest

from ingress.calls import Calls
from ingress.link import Link
from tests.support.ingress import Record
from tests.support.leaping_clock import on_leaping_clock


def delta(key: bytes, *headers: tuple[str, bytes]) -> Record:
    return Record(key, b"{}", [("kind", b"delta"), *headers])


def soon() -> float:
    return asyncio.get_running_loop().time() + 5


async def test_frames_go_to_every_caller_of_the_key_and_to_no_other() -> None:
    calls = Calls()
    with calls.open(b"t:a", "1") as one, calls.open(b"t:a", "2") as two, calls.open(b"t:b", "3") as other:
        calls.dispatch([delta(b"t:a"), delta(b"t:nobody"), Record(b"t:a", None, [])])
        assert len(await one.frames(soon())) == len(await two.frames(soon())) == 2
        assert await other.frames(0) == []


async def test_an_answer_to_one_record_goes_to_its_asker_alone() -> None:
    calls = Calls()
    with calls.open(b"t:a", "1") as one, calls.open(b"t:a", "2") as two:
        calls.dispatch([delta(b"t:a", ("in-reply-to", b"2")), delta(b"t:a", ("in-reply-to", b"9"))])
        assert await one.frames(0) == []
        assert len(await two.frames(soon())) == 1


async def test_a_waiting_caller_is_woken_once_for_a_batch() -> None:
    calls = Calls()
    with calls.open(b"t:a", "1") as call:
        waiting = asyncio.create_task(call.frames(soon()))
        await asyncio.sleep(0)
        calls.dispatch([delta(b"t:a")] * 3)
        assert len(await waiting) == 3


async def test_a_wait_ends_when_the_client_hangs_up() -> None:
    hung_up = asyncio.Event()

    async def receive() -> dict[str, object]:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    calls = Calls()
    with calls.open(b"t:a", "1") as call:
        call.follow(receive)
        waiting = asyncio.create_task(call.frames(soon()))
        await asyncio.sleep(0)
        hung_up.set()
        assert await waiting == []


async def test_a_closed_call_hears_nothing_and_leaves_nothing() -> None:
    calls = Calls()
    with calls.open(b"t:a", "1") as call:
        pass
    call.close()
    calls.dispatch([delta(b"t:a")])
    assert await call.frames(0) == []
    assert list(calls) == []


async def test_after_the_end_nobody_waits() -> None:
    calls = Calls()
    with calls.open(b"t:a", "1") as before:
        calls.end()
        with calls.open(b"t:a", "2") as after:
            assert await before.frames(soon()) == await after.frames(soon()) == []


@on_leaping_clock
async def test_a_wait_may_be_put_off_and_brought_forward() -> None:
    calls, loop = Calls(), asyncio.get_running_loop()
    with calls.open(b"t:a", "1") as call:
        for later in (0.05, 0.1, 30):
            calls.dispatch([delta(b"t:a")])
            assert len(await call.frames(loop.time() + later)) == 1
        waiting = asyncio.create_task(call.frames(loop.time() + 30))
        await asyncio.sleep(0)
        calls.dispatch([delta(b"t:a")])
        assert len(await waiting) == 1
        began = loop.time()
        assert await call.frames(began + 0.05) == []
        assert loop.time() - began == pytest.approx(0.05)


class TestLink:
    """When requests are refused without trying."""

    async def test_down_while_something_is_overdue(self) -> None:
        link, delivery = Link(), asyncio.get_running_loop().create_future()
        link.late(delivery)
        link.probed(answered=True)
        assert not link.up
        delivery.set_result(None)
        await asyncio.sleep(0)
        assert link.up

    async def test_a_delivery_shows_that_it_is_up(self) -> None:
        link = Link()
        link.late(asyncio.get_running_loop().create_future())
        link.delivered()
        assert link.up

    async def test_an_overdue_record_that_fails_leaves_it_to_the_probe(self) -> None:
        link, delivery = Link(), asyncio.get_running_loop().create_future()
        link.late(delivery)
        delivery.set_exception(OSError())
        await asyncio.sleep(0)
        assert not link.up
        link.probed(answered=True)
        assert link.up

    async def test_recovery_is_told_once(self) -> None:
        link, answers, recovered = Link(), iter([False, True, True]), 0
        over = asyncio.Event()

        async def probe() -> bool:
            answer = next(answers, None)
            if answer is None:
                over.set()
            return answer is not False

        async def on_recovery() -> None:
            nonlocal recovered
            recovered += 1

        watching = asyncio.create_task(link.watch(probe, on_recovery, every_seconds=0.001))
        await over.wait()
        watching.cancel()
        assert recovered == 1
