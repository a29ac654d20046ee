"""Being alone: nobody runs beside it, nobody starts, and then all go on."""

import asyncio

from inference.solitude import Solitude


async def test_who_wants_to_be_alone_waits_for_those_who_run_and_holds_up_the_rest() -> None:
    solitude = Solitude()
    woken: list[str] = []
    solitude.on_over(lambda: woken.append("again"))
    told: list[str] = []

    async def beside(name: str, until: asyncio.Event) -> None:
        await solitude.enter()
        told.append(f"{name} begins")
        await until.wait()
        told.append(f"{name} ends")
        solitude.leave()

    async def alone(name: str) -> None:
        async with solitude.alone():
            told.append(f"{name} alone")
            await asyncio.sleep(0)

    first_may_end, at_once = asyncio.Event(), asyncio.Event()
    at_once.set()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for job in (beside("first", first_may_end), alone("second"), alone("third"), beside("last", at_once)):
            group.create_task(job)
            await asyncio.sleep(0)
        assert told == ["first begins"]
        assert solitude.wanted
        first_may_end.set()
    assert told == ["first begins", "first ends", "second alone", "third alone", "last begins", "last ends"]
    assert woken == ["again"]
    assert not solitude.wanted
