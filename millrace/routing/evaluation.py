"""`millrace route eval`: what a scorer is worth on labelled questions, at every share of strong calls."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from millrace.routing.apgr import Point, apgr, at_share, curve
from millrace.routing.dataset import Labelled
from millrace.routing.worth import Worth

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class SubjectLine(NamedTuple):
    subject: str
    questions: int
    weak: float  # share of right answers
    strong: float
    apgr: float | None  # None: the strong model is no better here, so there is nothing to recover


class Evaluation(NamedTuple):
    questions: int
    weak: float
    strong: float
    apgr: float
    points: list[Point]  # at SHARES
    subjects: list[SubjectLine]
    worth: Sequence[Worth] = ()  # at some spends, where prices are known

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            **self._asdict(),
            "points": [point._asdict() for point in self.points],
            "subjects": [line._asdict() for line in self.subjects],
            "worth": [line._asdict() for line in self.worth],
        }


def evaluate(rows: Sequence[Labelled], needs: Sequence[float]) -> Evaluation:
    """`needs`: higher goes to the strong model first. Raises ValueError where the strong model is no better overall."""
    points = _curve(rows, needs)
    by_subject: defaultdict[str, list[int]] = defaultdict(list)
    for n, row in enumerate(rows):
        by_subject[row.subject].append(n)
    lines = [_line(name, [rows[n] for n in at], [needs[n] for n in at]) for name, at in sorted(by_subject.items())]
    return Evaluation(
        len(rows), points[0].quality, points[-1].quality, apgr(points), [at_share(points, s) for s in SHARES], lines
    )


def _line(subject: str, rows: Sequence[Labelled], needs: Sequence[float]) -> SubjectLine:
    weak, strong = _right(rows, lambda row: row.weak), _right(rows, lambda row: row.strong)
    return SubjectLine(subject, len(rows), weak, strong, apgr(_curve(rows, needs)) if strong > weak else None)


def _curve(rows: Sequence[Labelled], needs: Sequence[float]) -> list[Point]:
    return curve(needs, [row.gain for row in rows], _right(rows, lambda row: row.weak))


def _right(rows: Sequence[Labelled], was: Callable[[Labelled], bool]) -> float:
    return sum(map(was, rows)) / len(rows)
