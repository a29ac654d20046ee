"""`millrace top` on the running stack."""

import asyncio
import os
import pty
import sys
from pathlib import Path

import openai
import pytest

from tests.support.commands import Command

pytestmark = pytest.mark.stack
DEADLINE_SECONDS = 60.0


async def frame(data_dir: Path, columns: int) -> str:
    command = await Command.start("millrace", "top", "--once", "--data-dir", data_dir, environment={"COLUMNS": columns})
    ended = await command.ended()
    assert ended.status == 0, ended
    return ended.out


async def test_one_frame_fits_its_terminal(data_dir: Path, sdk: openai.AsyncOpenAI) -> None:
    await sdk.chat.completions.create(model="small", messages=[{"role": "user", "content": "hello"}], max_tokens=5)
    wide, narrow = await asyncio.gather(frame(data_dir, 120), frame(data_dir, 48))
    for text, columns in ((wide, 120), (narrow, 48)):
        assert max(map(len, text.splitlines())) <= columns
        for name in ("dedupe", "settle", "sink", "small", "large", "requests/s"):
            assert name in text
    assert "wait p99" in wide
    assert "wait p99" not in narrow


async def test_a_key_ends_it(data_dir: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "millrace", "top", "--interval", "0.2", "--data-dir", str(data_dir)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm-256color"}
    )
    os.close(theirs)
    loop, drawn, text = asyncio.get_running_loop(), asyncio.Event(), bytearray()

    def read() -> None:
        try:
            text.extend(os.read(ours, 65_536))
        except OSError:  # it has ended
            loop.remove_reader(ours)
        if b"settle" in text:
            drawn.set()

    loop.add_reader(ours, read)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await drawn.wait()
            os.write(ours, b"q")
            assert await process.wait() == 0, bytes(text)
    finally:
        loop.remove_reader(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
