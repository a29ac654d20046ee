"""From a caller's headers and body to the envelope: whose request it is, what it may cost, by when, in which lane."""

import re
import time
from datetime import datetime
from decimal import Decimal

from contracts.api_keys import ApiKey
from contracts.bodies import Described
from contracts.envelope import Envelope
from contracts.errors import InvalidRequest
from contracts.headers import RawHeaders
from contracts.prices import NANO
from contracts.tags import format_tags, parse_tags
from contracts.tracing import TraceContext

_MOST_NANO = 2**63  # what the ledger's column holds
_BATCH_TIERS = ("flex", "batch")


def envelope(caller: ApiKey, asked: Described, headers: dict[bytes, bytes], origin: dict[str, bytes]) -> RawHeaders:
    """Headers of a record on `requests`. `origin` says who wrote it and where the answer goes.

    The tenant, and the user of a key that has one, come from the API key; else a header wins over the body.
    Raises InvalidRequest.
    """
    fields = {
        **_trace(headers),
        **origin,
        "tenant": caller.tenant.encode(),
        "api-key-id": caller.id.encode(),
        "user": caller.user.encode() or headers.get(b"millrace-user") or asked.user.encode(),
        "feature": headers.get(b"millrace-feature") or asked.feature.encode(),
        "tags": _tags(headers.get(b"millrace-tags", b""), asked.tags),
        "lane": headers.get(b"millrace-lane") or _lane(asked),
        "deadline": _deadline(headers.get(b"millrace-deadline", b"")),
        "max-cost": _max_cost(headers.get(b"millrace-max-cost", b"")),
    }
    given = {name: value for name, value in fields.items() if value}
    Envelope.from_headers(given)  # every stage would refuse what doesn't fit
    return [*given.items(), *asked.digest.to_headers()]


def _tags(header: bytes, from_body: str) -> bytes:
    if not (header or from_body):
        return b""
    tags = parse_tags(from_body) | parse_tags(header.decode("utf-8", "replace"))
    return format_tags(tags).encode()


def _lane(asked: Described) -> bytes:
    tier = (asked.request.model_extra or {}).get("service_tier")
    return b"batch" if tier in _BATCH_TIERS else b"interactive"


def _max_cost(dollars: bytes) -> bytes:
    """Dollars as a decimal to whole nano-dollars, rounded down: a ceiling isn't passed by rounding."""
    if not dollars:
        return b""
    try:
        nano = Decimal(dollars.decode("ascii")) * NANO
        fits = 0 <= nano < _MOST_NANO
    except (ArithmeticError, ValueError):
        fits = False
    if not fits:
        raise InvalidRequest("Millrace-Max-Cost is an amount of dollars, e.g. 0.005.", param="Millrace-Max-Cost")
    return str(int(nano)).encode()


def _deadline(text: bytes) -> bytes:
    """Seconds from now, or a date, to UTC ms."""
    if not text:
        return b""
    try:
        at = _deadline_ms(text.decode("ascii"))
    except (ValueError, OverflowError):
        at = -1
    if at < 0:
        raise InvalidRequest(
            "Millrace-Deadline is a number of seconds from now, or an RFC 3339 date with its time zone, "
            "e.g. 2026-11-22T18:00:00Z.",
            param="Millrace-Deadline",
        )
    return str(at).encode()


def _deadline_ms(text: str) -> int:
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return int((time.time() + float(text)) * 1000)
    date = datetime.fromisoformat(text)
    if date.tzinfo is None:
        raise ValueError(text)
    return int(date.timestamp() * 1000)


def _trace(headers: dict[bytes, bytes]) -> dict[str, bytes]:
    """The caller's, where this process has no span of its own; a malformed one is dropped, as the recommendation has
    it."""
    context = TraceContext.parse(headers.get(b"traceparent"), headers.get(b"tracestate"))
    return dict(context.headers()) if context else {}
