"""What a tenant's requests to one model have really used, and so what the next one may use.

A mean and its spread follow the last values, as TCP follows its round trips (RFC 6298): in integers, so that a replay
comes to the same.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import orjson

from contracts.usage import UsageEvent

_VERSION = b"\x01"
_SCALE = 1024
_ENOUGH = 10  # values, before one goes by them


class Average(NamedTuple):
    """Of about the last 16 values; `mean` and `spread` are scaled."""

    values: int = 0
    mean: int = 0
    spread: int = 0

    def with_value(self, value: int) -> Self:
        scaled = value * _SCALE
        if not self.values:
            return self._replace(values=1, mean=scaled, spread=scaled // 2)
        error = scaled - self.mean
        spread = self.spread + (abs(error) - self.spread) // 8
        return self._replace(values=self.values + 1, mean=self.mean + error // 16, spread=spread)

    @property
    def high(self) -> int | None:
        """What few values exceed; None before enough are known."""
        return (self.mean + 2 * self.spread) // _SCALE if self.values >= _ENOUGH else None


@dataclass(slots=True)
class History:
    """Totals since the beginning, and what is learned of them."""

    requests: int = 0
    prompt: int = 0  # tokens
    cached: int = 0
    completion: int = 0
    cost_nano: int = 0
    prompts: Average = field(default_factory=Average)  # real tokens to a thousand (1,024) estimated ones
    answers: Average = field(default_factory=Average)  # tokens of answers that the caller didn't cap

    def add(self, event: UsageEvent, estimate: int, *, capped: bool) -> None:
        """A billed request, whose prompt was estimated to be so long."""
        self.requests += 1
        self.prompt += event.prompt_tokens
        self.cached += event.cached_tokens
        self.completion += event.completion_tokens
        self.cost_nano += event.cost_nano
        if estimate and event.prompt_tokens:
            self.prompts = self.prompts.with_value(event.prompt_tokens * _SCALE // estimate)
        if not capped and event.completion_tokens:
            self.answers = self.answers.with_value(event.completion_tokens)

    def prompt_tokens(self, estimate: int) -> int:
        """What a prompt of that estimated length may really have."""
        high = self.prompts.high
        return estimate if high is None else max(1, -(-estimate * high // _SCALE))

    def answer_tokens(self, default: int) -> int:
        """What an answer without a cap may have; `default` as long as nothing is known."""
        high = self.answers.high
        return default if high is None else max(1, high)

    def encode(self) -> bytes:
        totals = (self.requests, self.prompt, self.cached, self.completion, self.cost_nano)
        return _VERSION + orjson.dumps([*totals, [*self.prompts], [*self.answers]])

    @classmethod
    def decode(cls, value: bytes) -> Self:
        requests, prompt, cached, completion, cost_nano, prompts, answers = orjson.loads(value[1:])
        return cls(requests, prompt, cached, completion, cost_nano, Average(*prompts), Average(*answers))
