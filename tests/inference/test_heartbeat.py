"""Heartbeats on the real broker: what a worker tells while it works, when it stops, when it is killed."""

from pathlib import Path

import pytest

from contracts.control import ControlType
from contracts.frames import Frame, FrameKind
from contracts.outlook import Outlook
from contracts.settings import Settings
from contracts.workers import STALE_MS, LaneLoad
from tests.inference.harness import MODEL, open_bench, worker_process, write_routes
from tests.inference.jobs import chat
from tests.support.beats import beats_of

pytestmark = pytest.mark.broker


def loads(outlook: Outlook, lane: str = "interactive") -> list[LaneLoad]:
    """Of all workers, dead or alive."""
    models = [load for beat in outlook.beats for load in beat.models]
    return [told for load in models for told in load.lanes if told.lane == lane]


async def test_a_worker_tells_what_it_does_and_takes_its_beat_back_when_it_stops(
    settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"routes_file": write_routes(tmp_path, step_us=20_000)})
    async with open_bench(settings, frames=False) as bench, beats_of(settings) as beats:
        worker = worker_process(settings, tmp_path, worker_max_in_flight="8")
        await worker.start()
        outlook = await beats.until(lambda known: any(len(one.positions) == 4 for one in loads(known)))
        beat = outlook.beats[0]
        assert [(one.model, one.model_version, one.engine, one.room) for one in beat.models] == [
            (MODEL, "9", "synthetic", 8)
        ]
        assert beat.models[0].generation > 0
        assert [one.lane for one in beat.models[0].lanes] == ["interactive", "batch"]
        for number in range(60):
            tenant = "acme" if number % 3 else "globex"
            await bench.put(f"{tenant}:k{number}", chat(f"{number}", max_tokens=50), claim=f"0.{number}")
        outlook = await beats.until(lambda known: any(one.waiting for one in loads(known)))
        told = next(one for one in loads(outlook) if one.waiting)
        assert told.queued_tokens == 100 * told.waiting
        assert sum(tokens for tokens, _ in told.tenants.values()) == told.queued_tokens
        assert (told.places, told.running) == (8, 8) or told.places == told.running
        await bench.log.completed(60)
        outlook = await beats.until(lambda known: sum(sum(one.positions.values()) for one in loads(known)) == 60)
        ended = outlook.beats[0]
        assert (ended.models[0].outcomes.ended, ended.models[0].outcomes.failed) == (60, 0)
        assert ended.models[0].decode_tokens_per_second > 0
        assert ended.worker == beat.worker
        assert ended.started_at == beat.started_at
        assert loads(outlook)[0].ms_per_token
        await worker.stop()
        await beats.until(lambda known: not known.beats)
    async with beats_of(settings) as later:
        assert later.outlook.serves(MODEL, ended.at) is False


async def test_a_killed_workers_last_beat_grows_stale_beside_the_next_ones(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"routes_file": write_routes(tmp_path)})
    async with open_bench(settings, frames=False) as bench, beats_of(settings) as beats:
        first, second = (worker_process(settings, tmp_path, name) for name in ("first", "second"))
        await first.start()
        await beats.until(lambda known: any(one.positions for one in loads(known)))
        first.kill()
        await first.wait()
        await bench.put("acme:one", claim="0.1")
        await second.start()
        await bench.log.completed(1)
        outlook = await beats.until(
            lambda known: len(known.beats) == 2 and any(sum(one.positions.values()) == 1 for one in loads(known))
        )
        old, new = sorted(outlook.beats, key=lambda beat: beat.at)
        assert old.worker != new.worker
        assert new.models[0].generation > old.models[0].generation
        assert not outlook.live(new.at + STALE_MS + 1)
        assert outlook.live(old.at + STALE_MS + 1) == [new]
        await second.stop()


async def test_a_request_is_told_its_place_which_falls_as_the_queue_drains(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"routes_file": write_routes(tmp_path, step_us=20_000)})
    async with open_bench(settings) as bench, beats_of(settings) as beats:
        worker = worker_process(settings, tmp_path, worker_max_in_flight="4")
        await worker.start()
        for number in range(40):
            await bench.put(f"acme:k{number}", chat(f"{number}", max_tokens=20), claim=f"0.{number}")
        await beats.until(lambda known: any(one.waiting for one in loads(known)))

        async def place(key: str, claim: str) -> Frame:
            before = len(bench.log.frames_of(key))
            await bench.order(key, claim, ControlType.LOCATE)
            await bench.log.until(lambda: len(bench.log.frames_of(key)) > before)
            return bench.log.frames_of(key)[-1][1]

        first = await place("acme:k39", "0.39")
        await bench.log.completed(12)
        second = await place("acme:k39", "0.39")
        assert (first.kind, first.in_reply_to, first.model, first.claim) == (FrameKind.PLACE, "test", MODEL, "0.39")
        assert first.queue_position is not None
        assert second.queue_position is not None
        assert 39 >= first.queue_position > second.queue_position
        assert second.estimated_start is not None
        await bench.log.completed(40)
        begun = {outcome.key: outcome.completion.started_at for outcome in bench.log.completions}
        assert begun["acme:k39"] is not None
        await worker.stop()
