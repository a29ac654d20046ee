"""What the workers' beats tell: which models are served, and how long work would wait for its turn there.

Between two beats the reader knows better than the beat: time has passed, and what it has itself sent on since then
stands in the queue as well. (What other processes sent on within that second it doesn't know.)
"""

from collections.abc import Iterable
from typing import NamedTuple

import structlog
from pydantic import ValidationError

from contracts.envelope import Lane
from contracts.waits import requests_in, tokens_ahead, until_start_ms
from contracts.workers import STALE_MS, Beat, LaneLoad, ModelLoad

_log = structlog.get_logger()


class Wait(NamedTuple):
    """Of a request that comes now."""

    ms: int | None  # None: nobody can tell, since no request of its kind has run there yet
    ahead: int  # requests that start before it, about


class Sent(NamedTuple):
    """What was sent on, and isn't known to have been read."""

    at: int  # UTC ms
    partition: int
    tenant: str
    tokens: int


class _Held(NamedTuple):
    """The lane of a worker that has a partition."""

    beat: Beat
    load: LaneLoad


class _Unread:
    """What was sent on, summed up as it comes: each request's wait is asked for."""

    def __init__(self, sent: Iterable[Sent] = ()) -> None:
        self.all: list[Sent] = []
        self.tokens: dict[str, int] = {}  # by tenant
        self.since: int | None = None  # UTC ms: the first one
        for one in sent:
            self.add(one)

    def add(self, one: Sent) -> None:
        self.all.append(one)
        self.tokens[one.tenant] = self.tokens.get(one.tenant, 0) + one.tokens
        self.since = one.at if self.since is None else min(self.since, one.at)


class Outlook:
    """Fed by a follower of `workers`. Times are UTC ms."""

    def __init__(self) -> None:
        self._beats: dict[str, Beat] = {}
        self._sent: dict[tuple[str, str, Lane], _Unread] = {}  # by worker, model and lane
        self._told = False

    def apply(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Keys and values of `workers`. A tombstone takes a worker's beat back; an older one than the last is void."""
        for key, value in records:
            worker = (key or b"").decode("utf-8", "replace")
            self._told = True
            if not value:
                self._forget(worker)
                continue
            try:
                beat = Beat.model_validate_json(value)
            except ValidationError:
                _log.warning("a beat can't be read and is ignored", worker=worker)
                continue
            self._take(worker, beat)

    @property
    def beats(self) -> list[Beat]:
        """The last one of each worker that hasn't left in order, stale or not."""
        return list(self._beats.values())

    def live(self, now: int) -> list[Beat]:
        return [beat for beat in self._beats.values() if not beat.is_stale(now)]

    def serves(self, model: str, now: int) -> bool | None:
        """Whether a live worker has it; None when no worker has ever been heard of."""
        if not self._told:
            return None
        return bool(self.loads(model, now))

    def loads(self, model: str, now: int) -> list[tuple[Beat, ModelLoad]]:
        """Of each live worker that has the model."""
        return [(beat, load) for beat in self.live(now) for load in beat.models if load.model == model]

    def wait(self, model: str, lane: Lane, partition: int, tenant: str, now: int) -> Wait | None:
        """Of that tenant's request that is sent on now, to that partition of the lane; None without a live worker."""
        held = self._holder(model, lane, partition, now)
        if held is None:
            return None
        sent = self._sent.get((held.beat.worker, model, lane)) or _Unread()
        tokens = tokens_ahead(held.load, tenant, sent.tokens)
        came_ms = 0 if sent.since is None else max(sent.since - held.beat.at, 0)
        known = until_start_ms(held.load, tokens, came_ms)
        ms = None if known is None else max(known - max(now - held.beat.at, 0), 0)
        return Wait(ms, round(requests_in(held.load, tokens)))

    def add(self, model: str, lane: Lane, sent: Sent) -> None:
        """It has been sent on: what comes next stands behind it."""
        held = self._holder(model, lane, sent.partition, sent.at)
        if held:
            self._sent.setdefault((held.beat.worker, model, lane), _Unread()).add(sent)

    def _holder(self, model: str, lane: Lane, partition: int, now: int) -> _Held | None:
        """Who has the partition: of two that claim it the one of the later generation. While nobody does, the busiest:
        any of them may get it."""
        loads = self.loads(model, now)
        lanes = [(beat, load.generation, told) for beat, load in loads if (told := load.lane(lane))]
        holding = [entry for entry in lanes if partition in entry[2].positions]
        if holding:
            beat, _, told = max(holding, key=lambda entry: (entry[1], entry[0].at))
            return _Held(beat, told)
        if not lanes:
            return None
        beat, _, told = max(lanes, key=lambda entry: entry[2].queued_tokens)
        return _Held(beat, told)

    def _take(self, worker: str, beat: Beat) -> None:
        known = self._beats.get(worker)
        if known and known.at > beat.at:
            return
        self._beats[worker] = beat
        for load in beat.models:
            for lane in load.lanes:
                place = worker, load.model, lane.lane
                if sent := self._sent.pop(place, None):
                    self._sent[place] = _Unread(one for one in sent.all if _is_unread(one, lane, beat.at))

    def _forget(self, worker: str) -> None:
        self._beats.pop(worker, None)
        self._sent = {place: sent for place, sent in self._sent.items() if place[0] != worker}


def _is_unread(sent: Sent, lane: LaneLoad, at: int) -> bool:
    """By the times at which records were made: a record is made a little later than it is sent on. What nobody has read
    for so long went another way."""
    return sent.at > lane.read_at.get(sent.partition, 0) and at - sent.at < STALE_MS
