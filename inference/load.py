"""What one model's consumer tells of itself in its worker's heartbeat."""

from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition

from contracts.workers import LaneLoad
from inference.holding import Holding
from inference.lane import Lane
from inference.pace import Pace

_TENANTS = 32  # that are told


def lane_load(lane: Lane, pace: Pace, places: int, holding: Holding, ends: Mapping[TopicPartition, int]) -> LaneLoad:
    """`places`: requests that the lane may have in the engine while nothing of it waits; else it has what runs. `ends`:
    of its partitions, as far as they are known."""
    running, waiting = pace.running(lane.name), len(lane)
    places = max(running if waiting else places, running, 1)
    unread = sum(max(end - holding.read_to(partition), 0) for partition, end in ends.items())
    mean = lane.queued_tokens / waiting if waiting else pace.mean_tokens(lane.name)
    seconds = pace.seconds_per_token(lane.name)
    return LaneLoad(
        lane=lane.name,
        positions=_positions(holding, ends),
        running=running,
        waiting=waiting,
        unread=unread,
        queued_tokens=round(lane.queued_tokens + unread * mean),
        tenants=lane.queued(_TENANTS),
        places=places,
        frees_ms=pace.frees_ms(lane.name, places),
        mean_tokens=round(mean),
        ms_per_token=None if seconds is None else seconds * 1000,
    )


def _positions(holding: Holding, partitions: Iterable[TopicPartition]) -> dict[int, int]:
    return {partition.partition: holding.position(partition) for partition in sorted(partitions)}
