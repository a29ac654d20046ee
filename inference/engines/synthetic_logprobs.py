"""How sure the synthetic engine is of its words: log-probabilities as a model's are, most near 0 and some far below."""

import hashlib
from math import cos, exp, log, pi, sqrt

from inference.engine import Job

_SPACE = 2.0**16


def logprobs_of(job: Job, mean: float, spread: float, tokens: int) -> list[float]:
    """One for each token, exponentially distributed about the answer's own mean; that is lognormal about `mean`. The
    same for the same request."""
    drawn = hashlib.shake_128(b"logprobs" + job.fingerprint.encode()).digest(2 * (tokens + 2))
    points = [(int.from_bytes(drawn[place : place + 2]) + 1) / _SPACE for place in range(0, len(drawn), 2)]
    own = mean * exp(spread * sqrt(-2 * log(points[0])) * cos(2 * pi * points[1]))  # Box and Muller, 1958
    return [-own * log(point) for point in points[2:]]
