"""`millrace route train`: from labelled questions to a scorer, and what it is worth on subjects that it never saw.

The target is the gain, strong right less weak right. Words and opening: ridge, over terms that several subjects share,
so that a subject's own vocabulary is not learned. Choices and open questions: each feature's covariance with the gain,
which is ridge of endless strength; anything freer learned the subjects themselves.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import log, sqrt
from typing import NamedTuple

from millrace.routing.calibration import fit_logistic
from millrace.routing.dataset import Dataset, Labelled, folds, subject_weights
from millrace.routing.ridge import ridge
from streams.scoring.features import choices, open_question, opening, terms
from streams.scoring.learned import (
    LearnedScorer,
    Measure,
    Provenance,
    Term,
    probability,
    standard,
    weigh_measures,
    weigh_terms,
)
from streams.scoring.question import read_question

FOLDS = 8
_DIGITS = 5  # significant, of every number in the artefact: far above the last bit, where machines may differ


class TermPlan(NamedTuple):
    least_subjects: int
    penalty: float
    share: float  # of the score's spread


class Recipe(NamedTuple):
    words: TermPlan = TermPlan(4, 5.0, 1.0)
    opening: TermPlan = TermPlan(3, 10.0, 0.8)
    choices: float = 1.3
    open: float = 1.5


class Read(NamedTuple):
    """A question's features, computed once for every fold."""

    row: Labelled
    words: Mapping[str, int]
    opening: Mapping[str, int]
    choices: dict[str, float]
    open: dict[str, float]


class Parts(NamedTuple):
    words: dict[str, Term]
    opening: dict[str, Term]
    choices: dict[str, Measure]
    open: dict[str, Measure]

    def need(self, read: Read) -> float:
        """Before calibration: the order is right, the scale is not."""
        said = (
            weigh_terms(self.words, read.words),
            weigh_terms(self.opening, read.opening),
            weigh_measures(self.choices, read.choices),
            weigh_measures(self.open, read.open),
        )
        return sum(sum(part.values()) for part in said)

    def scaled(self, factor: float) -> "Parts":
        return Parts(
            {name: Term(_round(t.rarity), _round(t.weight * factor)) for name, t in self.words.items()},
            {name: Term(_round(t.rarity), _round(t.weight * factor)) for name, t in self.opening.items()},
            {name: Measure(*map(_round, (*m[:2], m.weight * factor))) for name, m in self.choices.items()},
            {name: Measure(*map(_round, (*m[:2], m.weight * factor))) for name, m in self.open.items()},
        )


def train(data: Dataset, needs: Sequence[float], seed: int, recipe: Recipe = Recipe()) -> LearnedScorer:  # noqa: B008
    """`needs`: of every row by a model that never saw its subject (`unseen_needs`); they set the scale."""
    slope, bias = fit_logistic(needs, [row.gain > 0 for row in data.rows])
    parts = fit([read(row) for row in data.rows], recipe).scaled(slope)
    subjects = len({row.subject for row in data.rows})
    about = Provenance(sha256=data.sha256, rows=len(data.rows), subjects=subjects, seed=seed)
    return LearnedScorer(trained_on=about, bias=_round(bias), **parts._asdict())


def unseen_needs(rows: list[Labelled], seed: int, recipe: Recipe = Recipe(), count: int = FOLDS) -> list[float]:  # noqa: B008
    """Each row scored by a model that was trained without its subject."""
    reads = [read(row) for row in rows]
    needs = [0.0] * len(rows)
    for left_out in folds(rows, count, seed):
        parts = fit([r for r in reads if r.row.subject not in left_out], recipe)
        for n, question in enumerate(reads):
            if question.row.subject in left_out:
                needs[n] = parts.need(question)
    return needs


def complexities(needs: Sequence[float], rows: Sequence[Labelled]) -> list[float]:
    """The same order on the scale that a scorer has: how likely the strong model alone is right."""
    slope, bias = fit_logistic(needs, [row.gain > 0 for row in rows])
    return [probability(slope * need + bias) for need in needs]


def read(row: Labelled) -> Read:
    question = read_question(row.prompt)
    lowered = [word.lower() for word in question.words]
    return Read(row, terms(lowered), opening(lowered), choices(question), open_question(question))


def fit(reads: list[Read], recipe: Recipe) -> Parts:
    return Parts(
        _fit_terms(reads, lambda r: r.words, recipe.words),
        _fit_terms(reads, lambda r: r.opening, recipe.opening),
        _fit_measures([r for r in reads if r.choices], lambda r: r.choices, recipe.choices),
        _fit_measures([r for r in reads if r.open], lambda r: r.open, recipe.open),
    )


def _fit_terms(reads: list[Read], part: Callable[[Read], Mapping[str, int]], plan: TermPlan) -> dict[str, Term]:
    rarities = _rarities(reads, part, plan.least_subjects)
    known = {name: Term(rarity, 1.0) for name, rarity in rarities.items()}
    index = {name: n for n, name in enumerate(known)}
    rows = [[(index[name], value) for name, value in weigh_terms(known, part(r)).items()] for r in reads]
    weights = subject_weights([r.row for r in reads])
    found = ridge(rows, [r.row.gain for r in reads], weights, plan.penalty)
    needs = [sum(value * found[n] for n, value in row) for row in rows]
    scale = plan.share / (_deviation(needs, [1.0] * len(needs)) or 1.0)
    return {name: Term(rarities[name], found[n] * scale) for name, n in index.items()}


def _rarities(reads: list[Read], part: Callable[[Read], Mapping[str, int]], least: int) -> dict[str, float]:
    """Inverse document frequency of the terms that enough subjects share, in alphabetical order."""
    documents = Counter(name for r in reads for name in part(r))
    subjects: defaultdict[str, set[str]] = defaultdict(set)
    for r in reads:
        for name in part(r):
            subjects[name].add(r.row.subject)
    kept = sorted(name for name in documents if len(subjects[name]) >= least)
    return {name: log((1 + len(reads)) / (1 + documents[name])) + 1 for name in kept}


def _fit_measures(reads: list[Read], part: Callable[[Read], dict[str, float]], share: float) -> dict[str, Measure]:
    if not reads:
        return {}
    weights = subject_weights([r.row for r in reads])
    gains = _centred([r.row.gain for r in reads], weights)
    found = {}
    for name in sorted({name for r in reads for name in part(r)}):
        values = [part(r).get(name, 0.0) for r in reads]
        measure = Measure(_mean(values, weights), _deviation(values, weights) or 1.0, 0.0)
        products = [standard(v, measure) * gain for v, gain in zip(values, gains, strict=True)]
        found[name] = measure._replace(weight=_mean(products, weights))
    needs = [sum(weigh_measures(found, part(r)).values()) for r in reads]
    scale = share / (_deviation(needs, [1.0] * len(needs)) or 1.0)
    return {name: measure._replace(weight=measure.weight * scale) for name, measure in found.items()}


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def _deviation(values: Sequence[float], weights: Sequence[float]) -> float:
    return sqrt(_mean([v * v for v in _centred(values, weights)], weights))


def _centred(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    mean = _mean(values, weights)
    return [value - mean for value in values]


def _round(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
