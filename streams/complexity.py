"""How hard a request looks: a score in [0, 1] that is the sum of a few features, each of which a person can check.

No model is asked, nothing is learned: a request is read once, a bounded part of it, in well under a millisecond.
"""

import re
from typing import Any, NamedTuple

from contracts.bodies import parse_object

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


class Complexity(NamedTuple):
    score: float
    features: dict[str, float]  # what each adds to the score; WEIGHTS says the most it can


def complexity(body: bytes, prompt_tokens: int) -> Complexity:
    """Of a checked body. Raises InvalidRequest when it isn't a JSON object."""
    fields = parse_object(body)
    text, turns = _question(fields)
    found = {
        "length": prompt_tokens / _LONG_PROMPT,
        "code": _share(_CODE, text, 3) + _share(_CODE_WORDS, text, 2) / 2,
        "maths": _share(_MATHS, text, 3),
        "multi_step": _share(_STEPS, text, 3),
        "tools": 1.0 if fields.get("tools") or fields.get("functions") else 0.0,
        "schema": _schema(fields.get("response_format")),
        "turns": (turns - 1) / _MANY_TURNS,
    }
    features = {name: round(WEIGHTS[name] * min(1.0, max(0.0, share)), 4) for name, share in found.items()}
    return Complexity(round(min(1.0, sum(features.values())), 4), features)


def _question(fields: dict[str, Any]) -> tuple[str, int]:
    """What is asked, cut to a bounded slice, and how many times the caller has spoken."""
    prompt = fields.get("prompt")
    if isinstance(prompt, str):
        return _slice(prompt), 1
    messages = _objects(fields.get("messages"))
    asked = [message for message in messages if message.get("role") == "user"]
    return _slice(_text(asked[-1]) if asked else ""), len(asked)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in _objects(content)]
    return "\n".join(part for part in parts if isinstance(part, str))


def _objects(value: Any) -> list[dict[str, Any]]:
    """The body was checked by whoever wrote its digest, and that may have been anybody."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


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
