"""How hard a request looks: a score in [0, 1], from features that a person can read.

Two scorers, chosen in `routes.toml`: a sum of a few checks, and a learned one. Neither asks a model, and both read a
bounded part of a request once.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from contracts.catalogue import ScorerName
from streams.scoring.body import asked
from streams.scoring.learned import LearnedScorer, dump, probability, shipped_scorer
from streams.scoring.question import shortened

_HEAD, _TAIL = 6_000, 2_000  # characters of the last question that are read
_LONG_PROMPT = 4_000  # tokens at which length counts in full
_MANY_TURNS = 8

# Every repetition is bounded: a prompt that is made to be slow is read as fast as any other.
_CODE = re.compile(
    r"```|\bdef \w+\(|\bclass \w+[:({]|#include\b|\bimport \w+|\bSELECT\b.{1,200}?\bFROM\b"
    r"|=>|\bTraceback\b|\w\(\)|[{};]\n"
)
_CODE_WORDS = re.compile(
    r"\b(code|function|script|bug|compile|refactor|regex|sql|python|java|javascript|typescript|rust|algorithm"
    r"|unit tests?)\b",
    re.IGNORECASE,
)
_MATHS = re.compile(
    r"\$[^$\n]{1,200}\$|\\(?:frac|sum|int|sqrt|begin)\b|[∑∫√≤≥≠π∞]|\d\s?[-+*/^=]\s?\(?\d"
    r"|\b(integral|derivative|equation|theorem|matrix|probability|eigenvalues?|modulo|polynomial|calculate|solve)\b",
    re.IGNORECASE,
)
_STEPS = re.compile(
    r"\bstep[ -]by[ -]step\b|\bfirst\b.{1,200}?\bthen\b|^[ \t]{0,8}(?:\d{1,3}[.)]|[-*])[ \t]+\S"
    r"|\b(prove|derive|analy[sz]e|compare|evaluate|design|plan|optimi[sz]e|justify|trade-?offs?|pros and cons"
    r"|explain why|reason(?:ing)? through|in detail)\b",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)

WEIGHTS = {
    "length": 0.25,
    "code": 0.25,
    "maths": 0.25,
    "multi_step": 0.30,
    "tools": 0.20,
    "schema": 0.10,
    "turns": 0.15,
}


UNTAUGHT = ("tools", "schema", "turns")
UNTAUGHT_OPEN = ("code", "multi_step")  # exams with listed choices teach enough of these
PRIOR = 6.0  # log-odds per point: a patch in full multiplies the odds by 4.5, three steps by 6


class Complexity(NamedTuple):
    score: float
    features: dict[str, float]  # what each adds: to the score (transparent), or to its log-odds (learned)


class _Seen(NamedTuple):
    fields: dict[str, Any]
    text: str
    turns: int
    tokens: int


class Scorer(NamedTuple):
    """`score` takes a checked body's fields, the prompt's estimated tokens, and how many questions to look back."""

    name: ScorerName
    version: str  # says what made a score, to the bit
    score: Callable[[dict[str, Any], int, int], Complexity]


def scorer(name: ScorerName, learned: LearnedScorer | None = None) -> Scorer:
    """`learned`: another artefact than the shipped one."""
    if name == "features":
        return Scorer(name, name, complexity)
    artefact = learned or shipped_scorer()
    version = hashlib.blake2b(dump(artefact), digest_size=4).hexdigest()
    return Scorer(
        name, f"learned-{version}", lambda fields, tokens, back: learned_complexity(fields, tokens, back, artefact)
    )


def complexity(fields: dict[str, Any], prompt_tokens: int, back: int = 0) -> Complexity:
    """A sum of plain checks."""
    question, turns = asked(fields, back)
    features = _points(_Seen(fields, _slice(question), turns, prompt_tokens), _CHECKS)
    return Complexity(round(min(1.0, sum(features.values())), 4), features)


def learned_complexity(
    fields: dict[str, Any], prompt_tokens: int, back: int = 0, artefact: LearnedScorer | None = None
) -> Complexity:
    """1 - P(the small model suffices).

    Its features are log-odds: what was learned, and a prior for what the labelled questions could not teach, since
    hardly one of them carries code, tools, a schema, turns or a list of things to do.
    """
    question, turns = asked(fields, back)
    learned = (artefact or shipped_scorer()).score(question)
    untaught = UNTAUGHT if learned.lists_choices else (*UNTAUGHT, *UNTAUGHT_OPEN)
    points = _points(_Seen(fields, shortened(question), turns, prompt_tokens), untaught)
    prior = {name: round(PRIOR * value, 4) for name, value in points.items() if value}
    features = {"base rate": learned.base, **learned.parts, **prior}
    return Complexity(round(probability(sum(features.values())), 4), features)


def _points(seen: _Seen, names: Iterable[str]) -> dict[str, float]:
    return {name: round(WEIGHTS[name] * min(1.0, max(0.0, _CHECKS[name](seen))), 4) for name in names}


def _slice(text: str) -> str:
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"


def _share(pattern: re.Pattern[str], text: str, enough: int) -> float:
    """One hit is a hint; `enough` of them are certainty."""
    hits = 0
    for _ in pattern.finditer(text):
        hits += 1
        if hits == enough:
            break
    return hits / enough


def _schema(response_format: Any) -> float:
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    return {"json_schema": 1.0, "json_object": 0.5}.get(kind, 0.0) if isinstance(kind, str) else 0.0


_CHECKS: dict[str, Callable[[_Seen], float]] = {
    "length": lambda seen: seen.tokens / _LONG_PROMPT,
    "code": lambda seen: _share(_CODE, seen.text, 3) + _share(_CODE_WORDS, seen.text, 2) / 2,
    "maths": lambda seen: _share(_MATHS, seen.text, 3),
    "multi_step": lambda seen: _share(_STEPS, seen.text, 3),
    "tools": lambda seen: 1.0 if seen.fields.get("tools") or seen.fields.get("functions") else 0.0,
    "schema": lambda seen: _schema(seen.fields.get("response_format")),
    "turns": lambda seen: (seen.turns - 1) / _MANY_TURNS,
}
