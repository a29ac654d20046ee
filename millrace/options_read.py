"""What several commands read from their options."""

from collections.abc import Sequence
from datetime import UTC, datetime

from contracts.errors import InvalidRequest
from millrace.times import parse_moment


def names(text: str) -> tuple[str, ...]:
    """Comma-separated."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def pairs(given: Sequence[str] | None) -> dict[str, str]:
    """NAME=VALUE each. Raises InvalidRequest."""
    found: dict[str, str] = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        if not sign or name in found:
            raise InvalidRequest(f"--only {text!r} should be NAME=VALUE, each name once.", param="only")
        found[name] = value
    return found


def period(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Raises InvalidRequest when it is none, or ends before it begins."""
    now = datetime.now(UTC)
    first, last = (parse_moment(text, now) if text else None for text in (since, until))
    if first and last and first >= last:
        raise InvalidRequest("--since must be before --until.", param="since")
    return first, last
