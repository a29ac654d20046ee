"""Periods as a page's address says them: `24h`, or moments in ISO 8601."""

import re
from datetime import UTC, datetime, timedelta

from contracts.errors import InvalidRequest

_LENGTH = re.compile(r"([1-9]\d{0,4})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LONGEST = timedelta(days=3660)
DEFAULT = "24h"


def period(since: str | None, until: str | None, now: datetime) -> tuple[datetime, datetime]:
    """Half-open, UTC; `since` may be a length before `until`. Raises InvalidRequest."""
    end = _moment(until, "until") if until else now
    length = _LENGTH.fullmatch(since or DEFAULT)
    start = end - int(length[1]) * _UNITS[length[2]] if length else _moment(since or "", "since")
    if not timedelta(0) < end - start <= _LONGEST:
        raise InvalidRequest("A period begins before it ends, and is at most ten years long.", param="since")
    return start, end


def _moment(text: str, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} is a length (15m, 24h, 30d) or a moment in ISO 8601.", param=name) from None
