"""A child process that logs to a file, is stopped within a limit, and never outlives its parent."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from contracts.errors import StackError

_PR_SET_PDEATHSIG = 1  # prctl(2)
_ROTATE_BYTES = 10 * 1024 * 1024
_libc = ctypes.CDLL(None, use_errno=True)  # loaded before any fork


class ChildProcess:
    """Runs in a session of its own, so that Ctrl-C in a terminal reaches the parent alone."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def spawn(cls, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Self:
        """Standard output and error are appended to `log`."""
        with _open_log(log) as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, or minus the signal's number; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Also ends what it left behind, such as an engine's own children."""
        running = self.status is None
        status = await self._process.wait()
        if running:
            self._kill_session()
        return status

    async def until_ready(self, ready: Awaitable[None], *, name: str, limit_seconds: float) -> None:
        """Raises StackError when it ends first, or takes longer; the caller stops it."""
        tasks = asyncio.ensure_future(ready), asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait(tasks, timeout=limit_seconds, return_when=asyncio.FIRST_COMPLETED)
            if self.status is not None:
                raise self.failure(f"{name} stopped while starting ({explain_status(self.status)})")
            if not tasks[0].done():
                raise self.failure(f"{name} was not ready within {limit_seconds:g} s")
            tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def failure(self, sentence: str) -> StackError:
        return StackError(f"{sentence}. The end of {self._log}:\n{log_tail(self._log)}")

    async def stop(self, limit_seconds: float) -> bool:
        """SIGTERM, then SIGKILL past the limit. False when it had to be killed."""
        if self.status is not None:
            return True
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), limit_seconds)
        except TimeoutError:
            self.kill()
            await self.wait()
            return False
        return True

    def kill(self) -> None:
        if self.status is None:
            self._kill_session()

    def _kill_session(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def explain_status(status: int) -> str:
    """`exit status 3`, or `killed by SIGKILL`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def log_tail(log: Path, lines: int = 12) -> str:
    """The last lines, indented for showing below a sentence."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def _open_log(log: Path) -> BinaryIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _ROTATE_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    return log.open("ab", buffering=0)


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """Even kill -9 of the parent leaves nothing running. Linux only."""
    if sys.platform != "linux":
        return None

    def apply() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return apply
