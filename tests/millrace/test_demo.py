"""`millrace demo` when it is stopped half-way."""

import signal
from pathlib import Path

import pytest

from millrace.stack_file import find_stack, running_stack
from tests.support.commands import Command
from tests.support.processes import gone

pytestmark = pytest.mark.stack


async def test_sigterm_leaves_nothing_running(tmp_path: Path) -> None:
    command = await Command.start("millrace", "demo", "--data-dir", tmp_path)
    try:
        await command.until("ready ")
        children = [child.pid for child in running_stack(tmp_path).children if child.pid]
        command.signal(signal.SIGTERM)
        assert (await command.ended()).status == 130
        assert children
        assert find_stack(tmp_path) is None
        for pid in children:
            await gone(pid)
    finally:
        await command.discard()
