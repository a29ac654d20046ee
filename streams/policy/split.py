"""One of several models by weight, always the same one for the same key: canaries without a memory.

Weighted rendezvous hashing: when a weight grows, keys move to that model only (Schindelhauer and Schomaker, 2005).
"""

import hashlib
from collections.abc import Mapping
from math import log

_SPACE = 2.0**64


def pick(weights: Mapping[str, int], key: bytes) -> str:
    """`weights` are positive."""
    return min(weights, key=lambda model: -log(_point(model, key)) / weights[model])


def _point(model: str, key: bytes) -> float:
    """In (0, 1]: where the key falls for this model."""
    digest = hashlib.blake2b(b"%b\0%b" % (model.encode(), key), digest_size=8).digest()
    return (int.from_bytes(digest) + 1) / _SPACE
