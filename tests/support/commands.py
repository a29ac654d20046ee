"""Running a command to its end or to its `ready` line, with deadlines."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

DEADLINE_SECONDS = 120.0


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


class Command:
    """A Python module run as a program, with settings of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, module: str, *arguments: object, environment: Mapping[str, object] | None = None) -> Self:
        kept = ("MILLRACE_CACHE_DIR", "MILLRACE_MAVEN_URL")  # where Kafka comes from is the machine's matter
        ours = {n: value for n, value in os.environ.items() if n in kept or not n.startswith("MILLRACE_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *map(str, arguments),
            env=ours | {name: str(value) for name, value in (environment or {}).items()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def until(self, text: str, *, err: bool = False) -> str:
        """What it printed, up to the line with `text`. Raises TimeoutError, or AssertionError when it ends before."""
        stream = self._process.stderr if err else self._process.stdout
        assert stream is not None
        lines = ""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while line := (await stream.readline()).decode():
                lines += line
                if text in line:
                    return lines
        ended = await self.ended()
        raise AssertionError(f"{text!r} never came:\n{lines}\n{ended}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> Ended:
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, err = await self._process.communicate()
        assert self._process.returncode is not None
        return Ended(self._process.returncode, out.decode(), err.decode())

    async def discard(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


async def millrace(data_dir: Path, *arguments: object) -> Ended:
    """A `millrace` command on a data folder, to its end."""
    command = await Command.start("millrace", *arguments, "--data-dir", data_dir)
    return await command.ended()
