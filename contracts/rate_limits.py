"""How near a caller is to its limits, as one header that travels with its request: `rate-limits`.

    requests=1000,998,120;tokens=200000,199600,120

For requests and for tokens: the tightest limit, what is left of it, and the milliseconds until all of it is back.
"""

from collections.abc import Iterable
from typing import NamedTuple


class RateLimit(NamedTuple):
    limit: int
    remaining: int
    reset_ms: int


def write_rate_limits(limits: Iterable[tuple[str, int, int, int]]) -> str:
    """Each a name, and then what RateLimit has."""
    return ";".join([f"{name}={limit},{remaining},{reset}" for name, limit, remaining, reset in limits])


def read_rate_limits(text: str) -> dict[str, RateLimit]:
    """Raises ValueError on anything else than `write_rate_limits` writes."""
    parts = (part.split("=", 1) for part in text.split(";") if part)
    return {name: RateLimit(*map(int, numbers.split(","))) for name, numbers in parts}
