"""Records that were fetched and wait for room in the engine: interactive ones first."""

from collections import deque
from collections.abc import Iterable

from aiokafka import ConsumerRecord


class Lanes:
    """One queue per work topic, in order of preference. `ahead` is how many records each may hold."""

    def __init__(self, topics: Iterable[str], ahead: int) -> None:
        self._ahead = ahead
        self._queues: dict[str, deque[ConsumerRecord]] = {topic: deque() for topic in topics}

    def put(self, records: Iterable[ConsumerRecord]) -> None:
        for record in records:
            self._queues[record.topic].append(record)

    def pop(self) -> ConsumerRecord | None:
        """The next record to start; a later lane's only when no earlier one has any."""
        for queue in self._queues.values():
            if queue:
                return queue.popleft()
        return None

    def clear(self) -> None:
        """The partitions are being dealt anew: what is ours will be delivered again."""
        for queue in self._queues.values():
            queue.clear()

    def short(self) -> set[str]:
        """Topics of which more should be fetched."""
        return {topic for topic, queue in self._queues.items() if len(queue) < self._ahead}
