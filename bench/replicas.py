"""Ingress processes beside those of a stack, that can be killed and started again on their ports."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from millrace.ports import free_port

_READY_SECONDS = 60.0


@dataclass(slots=True)
class Replica:
    kafka: str
    settings: dict[str, str] = field(default_factory=dict)  # MILLRACE_…, lower case
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None, "started"
        return self.process.pid

    async def start(self) -> None:
        changed = {"kafka_bootstrap_servers": self.kafka, "ingress_port": str(self.port)} | self.settings
        environment = {f"MILLRACE_{name.upper()}": value for name, value in changed.items()}
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "millrace", "ingress"),
            env=os.environ | environment,
            stderr=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with httpx.AsyncClient(base_url=self.url) as http, asyncio.timeout(_READY_SECONDS):
            while not await _ready(http):  # noqa: ASYNC110 - another process sets no event of ours
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """kill -9."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()


@asynccontextmanager
async def replicas(kafka: str, count: int, **settings: str) -> AsyncIterator[list[Replica]]:
    started = [Replica(kafka, settings) for _ in range(count)]
    try:
        await asyncio.gather(*(replica.start() for replica in started))
        yield started
    finally:
        for replica in started:
            await replica.kill()


async def _ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False
