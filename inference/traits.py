"""What can be said of an answer without its text: whether two models say the same, and what is wrong with either.

Two long texts hardly ever agree to the letter, so what is compared is what the answer comes to: a JSON document by its
values, calls by their functions and arguments, and of a text the final answer that it names, as models of today do when
they reason (GSM8K's `#### 42`, `The answer is (B)`, `\\boxed{7}`); all of it only where it names none.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal

import orjson

from contracts.cascade import Cascade
from contracts.completion import Traits
from inference.answer import Answer
from inference.gate import Gate

Kind = Literal["json", "call", "final", "text"]
_IN_ITSELF = Cascade(model="-", on=("invalid", "refusal", "length"))
_FINAL = re.compile(
    r"""\#\#\#\#\s*(?P<marked>[^\n]+)
      | \\boxed\{(?P<boxed>[^{}]+)\}
      | \banswer(?:\ is|:)\s*:?\s*(?P<named>[^\n]+?)(?:\.(?:\s|$)|\n|$)""",
    re.IGNORECASE | re.VERBOSE,
)
_MOST_FINAL = 100  # characters; a longer one is no final answer but the beginning of a text
_FENCED = re.compile(r"^```(?:json)?\s*\n(.*)\n```$", re.DOTALL)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NOT_SAID = re.compile(r"[^\w.+\-/%]+")
_CUT_DOTS = re.compile(r"\.(?!\d)|\.0+(?!\d)")


def traits(answer: Answer, body: Mapping[str, Any]) -> Traits:
    """Of an answer that has ended, to the request of that body."""
    kind, what = gist(answer)
    digest = hashlib.blake2b(b"%b\n%b" % (kind.encode(), what), digest_size=16).hexdigest()
    return Traits(
        answer_kind=kind,
        answer_digest=digest,
        mean_logprob=answer.mean_logprob,
        doubt=Gate(_IN_ITSELF, body).doubt(answer) or "",
    )


def gist(answer: Answer) -> tuple[Kind, bytes]:
    """What it comes to, normalised."""
    if calls := answer.extra.get("tool_calls"):
        return "call", _canonical([_called(call) for call in calls])
    text = answer.text.strip()
    document = _document(text)
    if document is not None:
        try:
            return "json", _canonical(document)
        except TypeError:  # nested deeper than can be written again
            return "text", _plain(text)
    if final := _final(text):
        return "final", final
    return "text", _plain(text)


def _called(call: Any) -> list[Any]:
    """Function and arguments; its id is the model's own."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return []
    arguments = function.get("arguments") or "{}"
    try:
        return [function.get("name"), orjson.loads(arguments)]
    except (orjson.JSONDecodeError, TypeError):
        return [function.get("name"), arguments]


def _document(text: str) -> Any:
    """An object or a list; a bare number or word is a text."""
    fenced = _FENCED.match(text)
    text = fenced[1] if fenced else text
    if not text.startswith(("{", "[")):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _final(text: str) -> bytes:
    """The last one that it names: models correct themselves."""
    named = [next(filter(None, found.groups()), "") for found in _FINAL.finditer(text)]
    return _plain(named[-1]) if named and len(named[-1]) <= _MOST_FINAL else b""


def _plain(text: str) -> bytes:
    """Letter case, spacing, quotes, brackets, currency, thousands and closing dots say nothing."""
    words = _NOT_SAID.sub(" ", _THOUSANDS.sub("", text.casefold()))
    return " ".join(_CUT_DOTS.sub("", words).split()).encode()


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
