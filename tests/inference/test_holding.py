"""What a worker commits, and when it must not."""

from typing import Any

from aiokafka import TopicPartition

from contracts.settings import Settings
from inference.claims import Place
from inference.holding import Holding

PARTITION = TopicPartition("work.small.interactive", 0)


class Group:
    """aiokafka's consumer and coordinator in one: `generation` is what it would commit with."""

    def __init__(self) -> None:
        self.generation = 1
        self.commits: list[int] = []
        self._coordinator = self
        self.takes_heartbeats = True

    async def _do_heartbeat(self) -> bool:
        return self.takes_heartbeats

    def assignment(self) -> set[TopicPartition]:
        return {PARTITION}

    async def fetch_committed_offsets(self, _: object) -> dict[TopicPartition, Any]:
        return {}

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 14)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 20)

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        self.commits.append(offsets[PARTITION][0])


async def test_nothing_is_committed_once_the_next_assignment_is_made() -> None:
    """Seen under load: the owner before committed 15, within the new generation; the new one, who had read 14, 14."""
    group = Group()
    consumer: Any = group
    holding = Holding("small", consumer, Settings(), room=4)
    await holding.take_over([PARTITION])
    place = Place(PARTITION, 14)
    assert holding.deliver(place)
    assert holding.start(place)
    await holding.leave()
    holding.finish([place])
    assert await holding.commit(), "while the others are still joining it is ours to say"
    group.generation = 2
    assert not await holding.commit(anyway=True)
    assert group.commits == [14, 14, 15]
    await holding.take_over([PARTITION])
    assert len(group.commits) == 4, "the next assignment is told, and everything with it"


async def test_who_wakes_from_a_long_sleep_is_in_doubt_until_the_group_takes_a_heartbeat() -> None:
    """Seen after freezes: it began what had come meanwhile, beside the worker that had its partitions by then."""
    group, now, beats = Group(), [1000.0], []
    consumer: Any = group
    holding = Holding("small", consumer, Settings(), room=4)
    holding._clock = lambda: now[0]
    holding.follow_heartbeats(lambda: beats.append(now[0]))
    await holding.take_over([PARTITION])
    assert not holding.doubtful
    now[0] += 10
    assert holding.doubtful
    group.takes_heartbeats = False
    assert not await group._do_heartbeat()
    assert holding.doubtful
    group.takes_heartbeats = True
    assert await group._do_heartbeat()
    assert not holding.doubtful
    assert beats == [1010.0]
