"""The supervisor with tiny real processes: readiness, restarts, ordered stops, nothing left behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.errors import StackError
from millrace.supervisor import Backoff, Supervisor
from tests.support.processes import DEADLINE_SECONDS, IGNORES_SIGTERM, NOTIFY, SERVE, alive, gone, service

TELLS_WHEN_STOPPED = (
    NOTIFY
    + """
def stop(*_):
    with open(os.environ["FOLDER"] + "/order", "a") as file:
        file.write(NAME)
    sys.exit()
signal.signal(signal.SIGTERM, stop); ready(); signal.pause()
"""
)


class Sayings:
    """What the supervisor said, to be awaited."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, line: str) -> None:
        self._lines.put_nowait(line)

    async def next(self) -> str:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._lines.get()

    def so_far(self) -> list[str]:
        return [self._lines.get_nowait() for _ in range(self._lines.qsize())]


@pytest.fixture
def said() -> Sayings:
    return Sayings()


@pytest.fixture
async def supervisor(said: Sayings) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(said, Backoff(first=0.01, longest=0.04))
    yield supervisor
    supervisor.kill()
    await supervisor.stop()


async def test_a_started_child_is_ready_and_a_stopped_one_is_gone(supervisor: Supervisor, tmp_path: Path) -> None:
    child = service(tmp_path, NOTIFY + "print('up', flush=True); ready(); signal.pause()")
    await supervisor.start(child)
    pid = child.pid
    assert pid is not None
    assert child.log.read_text() == "up\n"
    await supervisor.stop()
    assert child.pid is None
    assert not alive(pid)


async def test_a_dead_child_is_started_again_and_said_so(supervisor: Supervisor, said: Sayings, tmp_path: Path) -> None:
    child = service(tmp_path, SERVE)
    await supervisor.start(child)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert await said.next() == "child stopped (killed by SIGKILL); starting it again in 0.01 s"
    assert await said.next() == "child is ready again"
    assert child.pid not in (None, first)


async def test_a_child_that_keeps_dying_is_restarted_ever_more_slowly(
    supervisor: Supervisor, said: Sayings, tmp_path: Path
) -> None:
    await supervisor.start(service(tmp_path, NOTIFY + "ready(); sys.exit(3)"))
    deaths = [line for line in [await said.next() for _ in range(8)] if "starting it again" in line]
    assert deaths[:4] == [
        f"child stopped (exit status 3); starting it again in {wait} s" for wait in (0.01, 0.02, 0.04, 0.04)
    ]


async def test_a_failed_restart_is_said_with_its_reason_and_tried_again(
    supervisor: Supervisor, said: Sayings, tmp_path: Path
) -> None:
    once = "\nif os.path.exists(os.environ['FOLDER'] + '/ran'): print('no database'); sys.exit(4)\n"
    await supervisor.start(service(tmp_path, NOTIFY + once + "open(os.environ['FOLDER'] + '/ran', 'w'); ready()"))
    assert "starting it again in 0.01 s" in await said.next()
    failure = await said.next()
    assert failure.startswith("The child process stopped while starting (exit status 4).")
    assert "no database" in failure
    assert await said.next() == "child stopped (exit status 4); starting it again in 0.02 s"


async def test_a_child_that_ignores_sigterm_is_killed_past_its_limit(
    supervisor: Supervisor, said: Sayings, tmp_path: Path
) -> None:
    child = service(tmp_path, IGNORES_SIGTERM, stop_seconds=0.05)
    await supervisor.start(child)
    pid = child.pid
    assert pid is not None
    await supervisor.stop()
    assert not alive(pid)
    assert said.so_far() == [f"child did not stop in time and was killed; see {child.log}"]


async def test_children_stop_by_rank(supervisor: Supervisor, tmp_path: Path) -> None:
    ranks = {"kafka ": 9, "ingress ": 0, "streams ": 2, "worker ": 1}
    await supervisor.start(
        *(
            service(tmp_path, TELLS_WHEN_STOPPED.replace("NAME", repr(name)), name=name, stop_rank=rank)
            for name, rank in ranks.items()
        )
    )
    await supervisor.stop()
    assert (tmp_path / "order").read_text() == "ingress worker streams kafka "


async def test_a_child_that_ends_while_starting_fails_the_start_with_its_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    well = service(tmp_path, SERVE, name="well")
    ill = service(tmp_path, "print('cannot find the model'); raise SystemExit(1)", name="ill")
    with pytest.raises(StackError, match=r"(?s)^The ill process .*\(exit status 1\).*cannot find the model"):
        await supervisor.start(well, ill)
    await supervisor.stop()
    assert (well.pid, ill.pid) == (None, None)


async def test_a_child_that_is_never_ready_fails_the_start(supervisor: Supervisor, tmp_path: Path) -> None:
    slow = service(tmp_path, "import signal; signal.pause()", ready_seconds=0.1)
    with pytest.raises(StackError, match=r"^The child process was not ready within 0\.1 s"):
        await supervisor.start(slow)
    assert slow.pid is None


async def test_a_stop_does_not_wait_for_a_restart(said: Sayings, tmp_path: Path) -> None:
    patient = Supervisor(said, Backoff(first=3600, longest=3600))
    await patient.start(service(tmp_path, NOTIFY + "ready()"))
    assert "starting it again in 3600 s" in await said.next()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await patient.stop()


async def test_ctrl_c_in_a_terminal_reaches_the_parent_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    child = service(tmp_path, SERVE)
    await supervisor.start(child)
    assert child.pid is not None
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


async def test_what_a_dead_child_left_behind_is_ended(supervisor: Supervisor, said: Sayings, tmp_path: Path) -> None:
    fork = "\npid = os.fork()\nif pid == 0: signal.pause()\nprint(pid, flush=True); ready(); signal.pause()"
    child = service(tmp_path, NOTIFY + fork)
    await supervisor.start(child)
    grandchild = int(child.log.read_text())
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await said.next()
    await gone(grandchild)


async def test_kill_9_of_the_parent_leaves_nothing_running(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from millrace.supervisor import Supervisor
from tests.support.processes import IGNORES_SIGTERM, service
async def main():
    child = service(Path({str(tmp_path)!r}), IGNORES_SIGTERM)
    await Supervisor(print).start(child)
    print(child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert alive(child)
    parent.kill()
    await parent.wait()
    await gone(child)


def test_the_wait_doubles_up_to_a_limit_and_a_healthy_run_resets_it() -> None:
    backoff = Backoff(first=1, longest=5, healthy=30)
    waits = [backoff.next(previous, ran=1) for previous in (None, 1, 2, 4, 5)]
    assert waits == [1, 2, 4, 5, 5]
    assert backoff.next(5, ran=30) == 1
