"""Days and months in UTC, numbered, by UTC ms."""

from datetime import UTC, datetime
from functools import lru_cache

DAY_MS = 86_400_000


def day_of(at: int) -> int:
    """Days since 1970-01-01."""
    return at // DAY_MS


def day_ends(at: int) -> int:
    """When the next day begins."""
    return (at // DAY_MS + 1) * DAY_MS


def month_of(at: int) -> int:
    """Months since year 0."""
    return _month(at // DAY_MS)


def month_ends(at: int) -> int:
    """When the next month begins."""
    year, month = divmod(_month(at // DAY_MS) + 1, 12)
    return _begin(year, month + 1)


@lru_cache(maxsize=64)
def _month(day: int) -> int:
    date = datetime.fromtimestamp(day * DAY_MS / 1000, UTC)
    return date.year * 12 + date.month - 1


@lru_cache(maxsize=64)
def _begin(year: int, month: int) -> int:
    return round(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
