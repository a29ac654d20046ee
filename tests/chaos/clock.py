"""A service whose clock can be made to jump: `python -m tests.chaos.clock <service>`, then SIGUSR1 and SIGUSR2.

Only the wall clock moves, as Python code reads it (record timestamps come from there); the monotonic clock stays true,
as it does on a machine whose time is set. Nothing of the machine is touched.
"""

import signal
import sys
import time

JUMP_SECONDS = 1800
_NANO = 1_000_000_000
_true_time, _true_time_ns = time.time, time.time_ns


class _Clock:
    """SIGUSR1 puts it forward, SIGUSR2 back."""

    def __init__(self) -> None:
        self.ahead = 0  # seconds

    def jump(self, number: int, _frame: object) -> None:
        self.ahead += JUMP_SECONDS if number == signal.SIGUSR1 else -JUMP_SECONDS

    def time(self) -> float:
        return _true_time() + self.ahead

    def time_ns(self) -> int:
        return _true_time_ns() + self.ahead * _NANO


def main() -> None:
    clock = _Clock()
    time.time, time.time_ns = clock.time, clock.time_ns
    signal.signal(signal.SIGUSR1, clock.jump)
    signal.signal(signal.SIGUSR2, clock.jump)
    from millrace.cli import main as millrace  # noqa: PLC0415 - whoever says `from time import time` must get ours

    sys.argv = ["millrace", *sys.argv[1:]]
    millrace()


if __name__ == "__main__":
    main()
