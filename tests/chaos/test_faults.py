"""The faults that no signal can make, and what a run says of one that did not happen."""

import asyncio
import sys
import time
from pathlib import Path

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder

from tests.chaos.books import Evidence
from tests.chaos.campaign import Outcome, Round
from tests.chaos.clock import Clock
from tests.chaos.report import holds, markdown, missed, rows
from tests.chaos.rig import ROOT
from tests.chaos.small_disk import SmallDisk
from tests.chaos.switches import CLOCK, FORGOTTEN, Switches

WRITER = """
import sys
from pathlib import Path
from tests.chaos.small_disk import enter
enter(int(sys.argv[1]))
try:
    Path(sys.argv[2]).write_bytes(bytes(100_000))
except OSError as error:
    sys.exit(error.errno)
"""
ENOSPC = 28


def outcome(*done: Round) -> Outcome:
    return Outcome(1, list(done), Evidence(), [], [])


def test_switches_outlast_those_who_set_them(tmp_path: Path) -> None:
    Switches(tmp_path).set(CLOCK, -300)
    again = Switches(tmp_path)
    assert again.get(CLOCK) == -300
    again.clear(CLOCK)
    assert again.get(CLOCK) == 0
    again.note(FORGOTTEN, 3)
    again.note(FORGOTTEN, 4)
    assert Switches(tmp_path).noted(FORGOTTEN) == [3, 4]


@pytest.mark.parametrize("ahead", [600.0, -600.0])
def test_a_clock_that_is_off_shows_in_records(ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, getattr(time, name))  # put back afterwards
    monkeypatch.setattr(BatchBuilder, "append", BatchBuilder.append)
    right, clock = time.time(), Clock()
    clock.install()
    clock.ahead = ahead
    stamped = BatchBuilder(1000, 0).append(timestamp=None, key=None, value=b"")
    given = BatchBuilder(1000, 0).append(timestamp=7, key=None, value=b"")
    assert stamped.timestamp / 1000 == pytest.approx(right + ahead, abs=60)
    assert time.time() == pytest.approx(right + ahead, abs=60)
    assert given.timestamp == 7


async def test_a_small_disk_is_full_for_those_who_entered_it(tmp_path: Path) -> None:
    disk = await SmallDisk.mount(tmp_path / "disk", 1)
    if disk is None:
        pytest.skip("this machine gives no mount namespace to a user")

    async def write() -> int:
        command = (sys.executable, "-c", WRITER, str(disk.keeper), str(tmp_path / "disk" / "file"))
        return await (await asyncio.create_subprocess_exec(*command, cwd=ROOT)).wait()

    try:
        disk.fill()
        assert disk.free_bytes == 0
        assert await write() == ENOSPC
        disk.empty()
        assert await write() == 0
        assert not list((tmp_path / "disk").iterdir()), "everybody else sees nothing of it"
    finally:
        await disk.unmount()


def test_a_fault_that_did_not_happen_fails_the_run() -> None:
    assert holds(outcome(Round(("clock-worker",), 0.0)))
    assert not holds(outcome(Round(("clock-worker",), 0.0, void=["clock-worker: no record was off"])))


def test_seconds_are_of_answers_and_the_worst_is_held_against_the_goal() -> None:
    quick, slow = Round(("kill-kafka",), 0.0, held_up=[4.0] * 9), Round(("kill-kafka",), 0.0, held_up=[16.0])
    first = rows(outcome(quick, slow))[0]
    assert first[:3] == ["kill-kafka", "2", "0"]
    assert first[10:15] == ["10", "4.0", "16.0", "16.0", "15"]
    assert f"| {' | '.join(first)} |" in markdown(outcome(quick, slow))
    assert missed(outcome(quick, slow)) == ["goal missed: round 2, kill-kafka: 16.0 s, not 15"]


def test_a_rolling_restart_is_to_break_nothing() -> None:
    rolled, killed = (Round((name,), 0.0, failed=["503 No."]) for name in ("term-streams", "kill-streams"))
    assert missed(outcome(killed, rolled)) == ["goal missed: round 2, term-streams: 1 tries broke, the first: 503 No."]
