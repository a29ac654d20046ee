"""The time that records bear."""

import time


def now_ms() -> int:
    """UTC."""
    return time.time_ns() // 1_000_000
