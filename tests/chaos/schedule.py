"""The order of faults, from a seed: each alone first, in shuffled order, then alone or two and three at once."""

import random
from collections.abc import Iterator, Sequence

_MIXED_SHARE = 0.4
# What keeps still, lasts for minutes, or changes how many there are, shouldn't meet itself; nor what needs a victim
# that is there.
MIXABLE = (
    *("kill-ingress", "kill-streams", "kill-worker", "kill-analytics", "kill-kafka", "term-ingress"),
    *("clock-ingress", "clock-streams", "clock-worker", "forget-ledger"),
)


def rounds(seed: int, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Without end. The same seed and names give the same order."""
    rng = random.Random(f"faults {seed}")
    mixable = [name for name in names if name in MIXABLE]
    while True:
        for name in rng.sample(names, len(names)):
            yield (name,)
            if len(mixable) > 1 and rng.random() < _MIXED_SHARE:
                yield tuple(rng.sample(mixable, min(len(mixable), rng.choice((2, 3)))))
