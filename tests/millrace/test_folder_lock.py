"""One holder per folder, whatever becomes of it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from contracts.errors import StackError
from millrace.folder_lock import FolderLock


def test_a_taken_folder_is_refused_naming_its_holder(tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path),
        pytest.raises(StackError, match=rf"^The data folder {tmp_path} is in use by process {os.getpid()}: stop"),
        FolderLock(tmp_path),
    ):
        pass


def test_a_released_folder_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with FolderLock(tmp_path / "new"):
            pass


async def test_kill_9_gives_the_folder_back(tmp_path: Path) -> None:
    program = (
        "import signal; from pathlib import Path; from millrace.folder_lock import FolderLock\n"
        f"lock = FolderLock(Path({str(tmp_path)!r})); lock.acquire(); print(flush=True); signal.pause()"
    )
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert holder.stdout is not None
    await holder.stdout.readline()
    with pytest.raises(StackError, match=f"by process {holder.pid}"):
        FolderLock(tmp_path).acquire()
    holder.kill()
    await holder.wait()
    with FolderLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"^The data folder .*/file/data can't be used: Not a directory\.$"):
        FolderLock(tmp_path / "file" / "data").acquire()
