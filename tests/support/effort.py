"""How much a piece of code computes, as far as a busy machine lets a test say it: by comparison."""

import time
from collections.abc import Callable

_TURNS = 3


def effort(work: Callable[[], object]) -> float:
    """Seconds of CPU, the least of some turns."""
    return min(_once(work) for _ in range(_TURNS))


def _once(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
