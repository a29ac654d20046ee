"""Times as people write and read them; UTC throughout."""

import re
from datetime import UTC, datetime, timedelta

from contracts.errors import InvalidRequest

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d{1,6})([smhdw])")


def parse_moment(text: str, now: datetime) -> datetime:
    """`90s`, `30m`, `1h`, `7d`, `2w` ago, or ISO 8601 (UTC where it names no zone). Raises InvalidRequest."""
    if ago := _AGO.fullmatch(text.strip()):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(f"{text!r} is no time: write 1h, 7d, 2026-11-22 or 2026-11-22T10:00.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def format_moment(moment: datetime) -> str:
    """To the minute, or the second where there are some."""
    utc = moment.astimezone(UTC)
    return utc.strftime("%Y-%m-%d %H:%M:%S" if utc.second else "%Y-%m-%d %H:%M")


def format_duration(ms: float) -> str:
    """`12 ms`, `1.23 s`, `2 min 5 s`."""
    if abs(ms) < 1000:
        return f"{ms:.0f} ms"
    if abs(ms) < 60_000:
        return f"{ms / 1000:.2f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    return f"{minutes} min {seconds} s"
