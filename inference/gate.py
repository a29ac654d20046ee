"""The gate: whether a first answer stands, by what it says and by how likely its own tokens were to the model.

It holds no clock and sends nothing; trial.py asks it. Log-probabilities are natural ones.
"""

import re
from collections import deque
from collections.abc import Mapping
from math import fsum
from typing import Any

import orjson

from contracts.cascade import Cascade, Doubt
from inference.answer import Answer
from inference.engine import Step

_REFUSES = re.compile(
    r"""
    (?: (?: (?:i'm|i\ am)\ (?:very\ |so\ |really\ )?sorry | sorry | unfortunately | i\ apologi[sz]e ) \W+ (?:but\ )?
      | as\ an?\ (?:ai|(?:large\ )?language\ model) \b [^.]{0,60}? )?
    i (?: \ (?:can't|cannot|can\ not|won't|will\ not|am\ (?:unable|not\ able|not\ allowed)\ to)
      | 'm\ (?:unable|not\ able|not\ allowed)\ to ) \ (?:directly\ )?
    (?: access|answer|assist|complete|comply|continue|create|determine|discuss|do|engage|fulfil|generate|give|help|offer
      | participate|process|provide|recommend|respond|share|support|write ) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_REFUSAL_CHARACTERS = 200


class Gate:
    """Of one answer. `add` its steps; then ask."""

    def __init__(self, cascade: Cascade, body: Mapping[str, Any]) -> None:
        self._cascade = cascade
        self._body = body
        self._sum = 0.0
        self._count = 0
        self._stretch: deque[float] = deque(maxlen=cascade.stretch_tokens)
        self._worst = 0.0

    def add(self, step: Step) -> None:
        for logprob in step.token_logprobs:
            self._sum += logprob
            self._count += 1
            self._stretch.append(logprob)
            if len(self._stretch) == self._cascade.stretch_tokens:
                self._worst = min(self._worst, fsum(self._stretch) / len(self._stretch))

    def lost(self) -> bool:
        """Whether the answer can't stand any more, whatever follows."""
        least = self._cascade.worst_logprob
        return "unsure" in self._cascade.on and least is not None and self._worst < least

    def doubt(self, answer: Answer) -> Doubt | None:
        """Why it doesn't stand, as far as the answer has come: what only its end can tell counts once it has ended."""
        finish = answer.finish
        found: dict[Doubt, bool] = {
            "refusal": _refuses(answer),
            "length": finish is not None and finish.reason == "length",
            "invalid": finish is not None and finish.reason != "length" and _is_invalid(answer, self._body),
            "unsure": self._is_unsure(),
        }
        return next((doubt for doubt, holds in found.items() if holds and doubt in self._cascade.on), None)

    def _is_unsure(self) -> bool:
        """An answer that is shorter than a stretch is one."""
        if not self._count:
            return False  # the engine doesn't tell
        mean = self._sum / self._count
        worst = self._worst if self._count >= self._cascade.stretch_tokens else mean
        bounds = ((mean, self._cascade.mean_logprob), (worst, self._cascade.worst_logprob))
        return any(least is not None and value < least for value, least in bounds)


def _refuses(answer: Answer) -> bool:
    if answer.extra.get("refusal") or (answer.finish and answer.finish.reason == "content_filter"):
        return True
    opening = answer.text[:_REFUSAL_CHARACTERS].replace("\u2019", "'")
    return _REFUSES.match(opening.lstrip()) is not None


def _is_invalid(answer: Answer, body: Mapping[str, Any]) -> bool:
    """Not what response_format or tools asked for."""
    calls = answer.extra.get("tool_calls")
    if calls:
        return not all(_is_call(call, body) for call in calls)
    if _must_call(body.get("tool_choice")) and body.get("tools"):
        return True
    kind = _object(body.get("response_format"))
    return kind.get("type") in ("json_object", "json_schema") and not _is_answer(answer.text, kind)


def _must_call(choice: Any) -> bool:
    return choice == "required" or isinstance(choice, dict)


def _is_call(call: Any, body: Mapping[str, Any]) -> bool:
    """Of a function that was offered, with arguments that are a JSON object and have what it requires."""
    function = _object(_object(call).get("function"))
    offered = [_object(_object(tool).get("function")) for tool in body.get("tools") or ()]
    schemas = [_object(one.get("parameters")) for one in offered if one.get("name") == function.get("name")]
    return bool(schemas) and _has_required(function.get("arguments") or "{}", schemas[0])


def _is_answer(text: str, response_format: Mapping[str, Any]) -> bool:
    schema = _object(_object(response_format.get("json_schema")).get("schema"))
    return _has_required(text, schema)


def _has_required(text: Any, schema: Mapping[str, Any]) -> bool:
    """A JSON object with the schema's required fields; where the schema asks for something else, any JSON."""
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return False
    if schema.get("type", "object") != "object":
        return True
    required = schema.get("required")
    names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    return isinstance(value, dict) and names <= value.keys()


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
