"""How sure the synthetic engine is of its words: log-probabilities as a model's are, most near 0 and some far below."""

import hashlib
from collections.abc import Sequence
from math import log

from inference.engine import Job

_SPACE = 2.0**16


def logprobs_of(job: Job, mean: float, tokens: int) -> Sequence[float]:
    """One for each token, exponentially distributed about `mean`, the same for the same request."""
    drawn = hashlib.shake_128(b"logprobs" + job.fingerprint.encode()).digest(2 * tokens)
    points = [int.from_bytes(drawn[place : place + 2]) for place in range(0, 2 * tokens, 2)]
    return [-mean * log((point + 1) / _SPACE) for point in points]
