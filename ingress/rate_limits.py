"""`x-ratelimit-…`, as OpenAI's API has them: what the meter said when it let the request through, or didn't.

Source: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
"""

from contracts.rate_limits import read_rate_limits

_UNITS = (("h", 3_600_000), ("m", 60_000))


def rate_limit_headers(header: bytes) -> list[tuple[bytes, bytes]]:
    """Of the frame's `rate-limits` header."""
    headers = []
    for name, (limit, remaining, reset_ms) in read_rate_limits(header.decode()).items():
        values = {"limit": str(limit), "remaining": str(remaining), "reset": duration(reset_ms)}
        headers += [(f"x-ratelimit-{part}-{name}".encode(), value.encode()) for part, value in values.items()]
    return headers


def duration(ms: int) -> str:
    """As Go writes it, and OpenAI with it: 20ms, 1.5s, 6m0s, 8h0m12s."""
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    text, rest = "", ms
    for unit, size in _UNITS:
        if ms >= size:
            text += f"{rest // size}{unit}"
            rest %= size
    return f"{text}{rest / 1000:g}s"
