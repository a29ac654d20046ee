"""The learned scorer: sums of weights over what a question says, then one logistic step to a probability.

Four parts, each linear, so that every point of a score can be named: the words of the question, its opening, the shape
of the choices it lists, and, where it lists none, how much is to be worked out. Trained by `millrace route train`.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from math import exp, log, sqrt
from typing import Any, NamedTuple, Self

import orjson
from pydantic import BaseModel, ConfigDict

from streams.scoring.features import choices, open_question, opening, terms
from streams.scoring.question import read_question

ARTEFACT = "learned.json"
CLIP = 4.0  # standard deviations: one odd feature must not decide alone


class Term(NamedTuple):
    rarity: float  # inverse document frequency
    weight: float


class Measure(NamedTuple):
    mean: float
    deviation: float
    weight: float


class Provenance(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    rows: int
    subjects: int
    seed: int


class Score(NamedTuple):
    base: float  # log-odds that the large model is needed, before anything is read
    parts: dict[str, float]  # what each feature adds to them
    lists_choices: bool

    @property
    def small_suffices(self) -> float:
        """Probability."""
        return 1 - probability(self.base + sum(self.parts.values()))


class LearnedScorer(BaseModel):
    """Weights are log-odds that a question needs the large model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained_on: Provenance
    bias: float
    words: dict[str, Term]
    opening: dict[str, Term]
    choices: dict[str, Measure]
    open: dict[str, Measure]

    @classmethod
    def load(cls, document: bytes) -> Self:
        """Raises pydantic's ValidationError when it isn't a scorer."""
        return cls.model_validate_json(document)

    def score(self, prompt: str) -> Score:
        """Of the question's text. Pure, and bounded in time by what `read_question` reads."""
        question = read_question(prompt)
        lowered = [word.lower() for word in question.words]
        parts = {
            **_named("word", weigh_terms(self.words, terms(lowered))),
            **_named("opening", weigh_terms(self.opening, opening(lowered))),
            **_named("choices", weigh_measures(self.choices, choices(question))),
            **_named("open", weigh_measures(self.open, open_question(question))),
        }
        return Score(self.bias, parts, bool(question.choices))


@cache
def shipped_scorer() -> LearnedScorer:
    return LearnedScorer.load(files("streams.scoring").joinpath(ARTEFACT).read_bytes())


def probability(log_odds: float) -> float:
    return 1 / (1 + exp(-max(-30.0, min(30.0, log_odds))))


def weigh_terms(known: dict[str, Term], counted: Mapping[str, int]) -> dict[str, float]:
    """TF-IDF with sublinear counts, the vector's length 1, times the weights."""
    found = [(term, known[term], 1 + log(count)) for term, count in counted.items() if term in known]
    length = sqrt(sum((term.rarity * count) ** 2 for _, term, count in found)) or 1.0
    return {name: term.weight * term.rarity * count / length for name, term, count in found}


def weigh_measures(known: dict[str, Measure], measured: Mapping[str, float]) -> dict[str, float]:
    """Nothing when the part doesn't apply; what was not measured in a part that applies is 0."""
    if not measured:
        return {}
    return {name: m.weight * standard(measured.get(name, 0.0), m) for name, m in known.items()}


def standard(value: float, measure: Measure) -> float:
    """In standard deviations from the mean."""
    return max(-CLIP, min(CLIP, (value - measure.mean) / measure.deviation))


def dump(scorer: LearnedScorer) -> bytes:
    """The artefact: the same scorer gives the same bytes."""
    document: dict[str, Any] = scorer.model_dump()
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _named(part: str, weights: dict[str, float]) -> dict[str, float]:
    return {f"{part}: {name}": weight for name, weight in weights.items()}
