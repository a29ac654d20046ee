"""A wall clock that can be put ahead or back, as Python code of this process reads it.

The monotonic clock stays true, as it does on a machine whose time is set. aiokafka's C extension would ask the machine
itself for a record's timestamp, so it is given one.
"""

import time
from typing import Any

_NANO = 1_000_000_000
_true_time, _true_time_ns = time.time, time.time_ns


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0  # seconds

    def time(self) -> float:
        return _true_time() + self.ahead

    def time_ns(self) -> int:
        return _true_time_ns() + int(self.ahead * _NANO)

    def install(self) -> None:
        """Before anything says `from time import time`."""
        time.time, time.time_ns = self.time, self.time_ns
        self._stamp_records()

    def _stamp_records(self) -> None:
        from aiokafka.producer.message_accumulator import BatchBuilder  # noqa: PLC0415 - it imports time

        plain = BatchBuilder.append

        def append(builder: Any, *, timestamp: int | None, **record: Any) -> Any:
            return plain(builder, timestamp=int(self.time() * 1000) if timestamp is None else timestamp, **record)

        BatchBuilder.append = append
