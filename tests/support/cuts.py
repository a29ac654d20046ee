"""A TCP proxy whose every connection is cut sooner or later, wherever that may be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random

_CHUNK = 4096


class CuttingProxy:
    """A connection carries up to a drawn number of bytes, up (to the server) or down; the seed gives the draws."""

    def __init__(self, host: str, port: int, random: Random, most_bytes: dict[str, int]) -> None:
        self._target = host, port
        self._random = random
        self._most_bytes = most_bytes
        self.cuts = dict.fromkeys(most_bytes, 0)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut = self._random.choice(list(self._most_bytes))
        left = self._random.randint(1, self._most_bytes[cut])
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        pumps = {
            asyncio.create_task(self._pump("up", reader, server_writer, left if cut == "up" else None)),
            asyncio.create_task(self._pump("down", server_reader, writer, left if cut == "down" else None)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, server_writer):
                end.close()

    async def _pump(
        self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None
    ) -> None:
        """Ends with either side, or with the byte at which the connection is cut."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                writer.write(data if left is None else data[:left])
                await writer.drain()
                if left is not None and (left := left - len(data)) <= 0:
                    self.cuts[way] += 1
                    return


@contextlib.asynccontextmanager
async def cutting_proxy(
    host: str, port: int, *, seed: int, up: int, down: int
) -> AsyncIterator[tuple[str, CuttingProxy]]:
    """Its address, `host:port`. `up`, `down`: the most bytes that a connection carries before its cut."""
    proxy = CuttingProxy(host, port, Random(seed), {"up": up, "down": down})
    carrying: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.carry(reader, writer))
        carrying.add(task)
        task.add_done_callback(carrying.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        listening, number = server.sockets[0].getsockname()
        yield f"{listening}:{number}", proxy
    finally:
        server.close()
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)
