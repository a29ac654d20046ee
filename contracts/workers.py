"""Heartbeats: `workers` (compacted, key: the worker's name) has what each worker serves, does and has waiting.

A worker writes one about each second, sooner when much has changed, and a tombstone when it stops in order. Whoever
reads them goes by `at`: a beat that is older than a few beats' time tells of a worker that is dead, cut off, or asleep.
"""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from contracts.envelope import Lane
from contracts.settings import EngineName

BEAT_MS = 1000
STALE_MS = 5 * BEAT_MS  # without a beat for so long a worker isn't counted on


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class Queued(NamedTuple):
    """What one tenant has waiting."""

    tokens: int
    weight: float  # its share, relative to other tenants'


class Outcomes(_Told):
    """Since the worker started."""

    ended: int = Field(0, ge=0, description="requests that the engine was asked to run, however they ended")
    failed: int = Field(0, ge=0, description="of these, by no fault of the request: errors, hangs, overloads")


class LaneLoad(_Told):
    """One lane of one model in one worker. Tokens are reserved ones: prompt and longest answer, as estimated."""

    lane: Lane
    positions: dict[int, int] = Field({}, description="its partitions: the offset below which everything is finished")
    read_at: dict[int, int] = Field({}, description="by partition, UTC ms: timestamp of the last record that was read")
    running: int = Field(0, ge=0, description="requests in the engine")
    waiting: int = Field(0, ge=0, description="requests that were read and wait for room")
    unread: int = Field(0, ge=0, description="records in Kafka that it doesn't read ahead, having enough")
    queued_tokens: int = Field(0, ge=0, description="of what waits; of unread records by the mean of what was read")
    tenants: dict[str, Queued] = Field({}, description="of what was read: the tenants that have most waiting")
    places: int = Field(1, ge=1, description="requests that the lane may have in the engine at once, as things are")
    frees_ms: tuple[int, ...] = Field((), description="when those become free, expected: evenly spaced quantiles")
    mean_tokens: int = Field(0, ge=0, description="of a request")
    ms_per_token: float | None = Field(None, ge=0, description="a request's time in the engine over its tokens")
    spread: tuple[float, ...] = Field((), description="requests' times in the engine over their mean: even quantiles")


class ModelLoad(_Told):
    """One model in one worker."""

    model: str
    model_version: str = ""
    engine: EngineName
    generation: int = Field(-1, description="of the consumer group: of two that claim a partition the higher holds it")
    running: int = Field(0, ge=0, description="requests in the engine")
    room: int = Field(ge=1, description="requests that may be in it at once")
    kv_used: float | None = Field(None, ge=0, le=1, description="share of the KV cache, where the engine tells")
    prefill_tokens_per_second: float = Field(0.0, ge=0, description="over the last ten seconds or so")
    decode_tokens_per_second: float = Field(0.0, ge=0, description="over the last ten seconds or so")
    outcomes: Outcomes = Outcomes()
    lanes: tuple[LaneLoad, ...] = ()

    def lane(self, name: Lane) -> LaneLoad | None:
        return next((lane for lane in self.lanes if lane.lane == name), None)


class Beat(_Told):
    """Value on `workers`, as JSON. Times are UTC ms by the worker's clock."""

    worker: str
    at: int
    started_at: int
    version: str = Field(description="of Millrace")
    models: tuple[ModelLoad, ...]

    def is_stale(self, now: int) -> bool:
        """As of `now`, UTC ms. A clock that runs ahead of ours does no harm."""
        return now - self.at > STALE_MS
