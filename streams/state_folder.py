"""A folder for this process's tables: the first that no other process holds, so a restart finds its own again."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from contracts.errors import StackError


@contextmanager
def claim_folder(parent: Path) -> Iterator[Path]:
    """`parent/0`, or `parent/1` beside a process that holds that … Raises StackError when it can't be used."""
    folder, held = next(
        (folder, held) for folder in (parent / str(number) for number in count()) if (held := _hold(folder)) is not None
    )
    try:
        yield folder
    finally:
        os.close(held)


def _hold(folder: Path) -> int | None:
    """The kernel gives the lock back however its holder ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StackError(f"The streams' state folder {folder} can't be used: {error.strerror}.") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
