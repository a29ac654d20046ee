import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from contracts.errors import StackError
from contracts.http_server import bind, serving


class Slow:
    """An app whose answer the test lets go."""

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.asked.set()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


def test_a_port_in_use_is_one_sentence_that_says_what_to_set() -> None:
    with bind("127.0.0.1", 0, "INGRESS") as taken:
        taken.listen()
        port = taken.getsockname()[1]
        sentence = (
            rf"^Port {port} on 127\.0\.0\.1 is in use: stop what listens there, or set MILLRACE_DASHBOARD_PORT\.$"
        )
        with pytest.raises(StackError, match=sentence):
            bind("127.0.0.1", port, "DASHBOARD")


def test_an_address_of_another_machine_is_one_sentence_too() -> None:
    with pytest.raises(StackError, match=r"can't listen on 192\.0\.2\.1:80 \(.*\): set MILLRACE_METRICS_HOST and"):
        bind("192.0.2.1", 80, "METRICS")


async def test_at_its_end_it_takes_nobody_and_answers_who_asked() -> None:
    app, ready = Slow(), asyncio.Event()
    async with asyncio.timeout(60), httpx.AsyncClient(timeout=60) as http:
        async with serving(app, bind("127.0.0.1", 0, "INGRESS"), when_ready=ready.set) as server:
            await ready.wait()
            url = f"http://127.0.0.1:{server.port}"
            answer = asyncio.create_task(http.get(url))
            await app.asked.wait()
            refused = asyncio.create_task(until_refused(url))
            refused.add_done_callback(lambda _: app.may_answer.set())
        assert (await answer).status_code == 204
        assert refused.done()
        assert server.ended.done()


async def until_refused(url: str) -> None:
    """Each try on a connection of its own, and given up soon: one that got in is answered only at the end."""
    while True:
        try:
            async with httpx.AsyncClient(timeout=0.1) as http:
                await http.get(url)
        except httpx.ConnectError:
            return
        except httpx.TransportError:
            continue
