"""How long an engine takes to its first token, lately: what comes too close to its deadline can't start in time."""

_WEIGHT = 1 / 16
_DEVIATIONS = 2


class FirstTokenTime:
    """A running mean and its mean deviation, as TCP keeps them of round trips (RFC 6298). Milliseconds."""

    def __init__(self) -> None:
        self._mean = 0.0
        self._deviation = 0.0

    def add(self, ms: float) -> None:
        error = ms - self._mean
        self._mean += error * _WEIGHT
        self._deviation += (abs(error) - self._deviation) * _WEIGHT

    @property
    def likely_most_ms(self) -> float:
        return self._mean + _DEVIATIONS * self._deviation
