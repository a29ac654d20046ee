"""An answer as it grows: what the engine's steps add up to."""

from dataclasses import dataclass, field
from math import fsum
from typing import Any

from inference.engine import Finish, Step


@dataclass(slots=True)
class Answer:
    texts: list[str] = field(default_factory=list)
    characters: int = 0
    tokens: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    logprobs: dict[str, Any] | None = None
    finish: Finish | None = None
    logprob_sum: float = 0.0  # of its own tokens, where the engine tells
    logprob_count: int = 0

    @property
    def mean_logprob(self) -> float | None:
        return self.logprob_sum / self.logprob_count if self.logprob_count else None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def add(self, step: Step) -> None:
        self.texts.append(step.text)
        self.characters += len(step.text)
        self.tokens += step.tokens
        if step.extra:
            merge(self.extra, step.extra)
        if step.logprobs:
            self.logprobs = self.logprobs or {}
            merge(self.logprobs, step.logprobs)
        if step.token_logprobs:
            self.logprob_sum += fsum(step.token_logprobs)
            self.logprob_count += len(step.token_logprobs)
        self.finish = step.finish


def merge(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    """Adds a delta as OpenAI's clients do: text and lists grow, tool calls by their `index`, the rest is replaced."""
    for name, value in delta.items():
        old = whole.get(name)
        if isinstance(value, str) and isinstance(old, str) and name not in ("id", "type", "role"):
            whole[name] = old + value
        elif isinstance(value, dict) and isinstance(old, dict):
            merge(old, value)
        elif isinstance(value, list):
            whole[name] = old if isinstance(old, list) else []
            for item in value:
                _merge_item(whole[name], item)
        elif value is not None or name not in whole:
            whole[name] = value


def _merge_item(items: list[Any], item: Any) -> None:
    """Tool calls carry an `index` that says which one grows; the finished message has no such field."""
    if not isinstance(item, dict) or "index" not in item:
        items.append(item)
        return
    index = item["index"]
    while len(items) <= index:
        items.append({})
    merge(items[index], {name: value for name, value in item.items() if name != "index"})
