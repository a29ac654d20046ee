"""A request that was forwarded twice (a stage crashed between sending and remembering it), or whose record came again
while it ran (the partitions were dealt anew), runs once in this process."""

from collections import OrderedDict
from typing import NamedTuple

from aiokafka import TopicPartition

_REMEMBERED = 20_000  # finished runs


class Place(NamedTuple):
    """Where a record lies."""

    partition: TopicPartition
    offset: int


class Claims:
    """Runs by request key and claim: those in flight with all places that wait for them, and the last finished."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._running: dict[tuple[bytes, bytes], dict[Place, None]] = {}
        self._finished: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()

    def enter(self, identity: tuple[bytes, bytes], place: Place) -> bool:
        """True when it should run. If not it has run (see `has_finished`), or its place will be among those that
        `finish` returns."""
        if identity in self._finished:
            return False
        runs = identity in self._running
        self._running.setdefault(identity, {})[place] = None
        return not runs

    def has_finished(self, identity: tuple[bytes, bytes]) -> bool:
        return identity in self._finished

    def finish(self, identity: tuple[bytes, bytes]) -> list[Place]:
        """Its outcome is published: every place that carried it is done."""
        self._finished[identity] = None
        if len(self._finished) > self._remembered:
            self._finished.popitem(last=False)
        return [*self._running.pop(identity)]

    def abandon(self, identity: tuple[bytes, bytes]) -> None:
        """It runs no longer and has no outcome: whichever of its places comes next runs."""
        del self._running[identity]
