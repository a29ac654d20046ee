"""A leaky bucket in integers: `used` is an amount × 60,000, so that a millisecond's leak of any limit is whole.

It holds what was used rather than what is left, so that a new limit applies to what is in it, and an empty one need not
be kept at all.
"""

MINUTE_MS = 60_000


def leaked(used: int, limit: int, ms: int) -> int:
    """After so long."""
    return max(0, used - ms * limit)


def wait_ms(used: int, amount: int, limit: int) -> int:
    """How long until so much can be taken, if nobody else takes any; 0 when it can be now."""
    return max(0, -(-(used + (amount - limit) * MINUTE_MS) // limit))


def left(used: int, limit: int) -> int:
    return max(0, limit - -(-used // MINUTE_MS))


def empty_ms(used: int, limit: int) -> int:
    """How long until all of it has leaked."""
    return -(-used // limit) if limit else 0


def taken(used: int, amount: int) -> int:
    """A negative amount is given back; never more than there is in it."""
    return max(0, used + amount * MINUTE_MS)
