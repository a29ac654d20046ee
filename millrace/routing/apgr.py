"""Cost and quality of a ranking: how much of the strong model's lead is kept at each share of strong calls.

PGR = (quality - weak) / (strong - weak); APGR is its mean over shares from 0 to 1 (RouteLLM, arXiv 2406.18665).
Random routing gives 0.5.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple


class Point(NamedTuple):
    strong_share: float
    quality: float  # share of right answers
    recovered: float  # PGR


def curve(
    needs: Sequence[float], gains: Sequence[int], weak: float, extras: Sequence[int] | None = None
) -> list[Point]:
    """Highest need first to the strong model; questions of equal need go together. `weak`: the weak model's quality.

    With `extras`, what each costs more on the strong model, the shares are of that cost instead of the calls.
    Raises ValueError when the strong model is no better overall: there is no gap to recover.
    """
    total = sum(gains)
    if total <= 0:
        raise ValueError("The strong model is no better than the weak one on these questions.")
    counts = extras or [1] * len(gains)
    ranked = sorted(zip(needs, gains, counts, strict=True), key=lambda row: -row[0])
    points, asked, gained = [Point(0.0, weak, 0.0)], 0, 0
    for _, equal in groupby(ranked, key=lambda row: row[0]):
        for _, gain, count in equal:
            asked, gained = asked + count, gained + gain
        points.append(Point(asked / sum(counts), weak + gained / len(gains), gained / total))
    return points


def apgr(points: Sequence[Point]) -> float:
    """By trapezoids: within equal needs the order is random."""
    return sum((b.strong_share - a.strong_share) * (a.recovered + b.recovered) / 2 for a, b in pairwise(points))


def at_share(points: Sequence[Point], share: float) -> Point:
    """Between two points: along the line that joins them."""
    for a, b in pairwise(points):
        if a.strong_share <= share <= b.strong_share:
            t = (share - a.strong_share) / ((b.strong_share - a.strong_share) or 1.0)
            return Point(share, a.quality + t * (b.quality - a.quality), a.recovered + t * (b.recovered - a.recovered))
    return points[-1]
