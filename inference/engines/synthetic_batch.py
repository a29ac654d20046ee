"""The synthetic engine's scheduler: continuous batching as vLLM does it, without clock and text.

Each step decodes one token for every sequence that has its prompt, and spends what is left of the step's token budget
on prompts, in chunks, first come first served within a priority. A sequence holds KV space for its prompt and its whole
answer from admission to end, so nothing is ever preempted.
"""

import asyncio
import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from contracts.catalogue import SyntheticTiming


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer on its way. Counts are tokens."""

    prompt: int  # to prefill: what the prefix cache hadn't
    output: int  # to decode, at least 1
    kv: int  # prompt and output, cached or not
    priority: int
    every_token: bool  # wake its reader at each token, not only at the first and the last
    prefilled: int = 0
    produced: int = 0
    closed: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cut(self) -> bool:
        """It was removed before its end."""
        return self.closed and self.produced < self.output

    def advance(self) -> None:
        self.produced += 1
        if self.every_token or self.produced in (1, self.output):
            self.news.set()


class BatchStep(NamedTuple):
    prefills: list[tuple[Sequence, int]]
    decodes: list[Sequence]
    cost_us: float


class Batch:
    def __init__(self, timing: SyntheticTiming) -> None:
        self._timing = timing
        self._waiting: list[tuple[int, int, Sequence]] = []
        self._running: dict[Sequence, None] = {}  # in order of admission
        self._arrivals = count()
        self.kv_used = 0

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def kv_usage(self) -> float:
        """Share of the KV space."""
        return self.kv_used / self._timing.kv_tokens

    def add(self, sequence: Sequence) -> None:
        heapq.heappush(self._waiting, (sequence.priority, next(self._arrivals), sequence))

    def remove(self, sequence: Sequence) -> None:
        """Its KV space is free at once; one that waits is skipped when its turn comes."""
        sequence.closed = True
        if sequence in self._running:
            del self._running[sequence]
            self.kv_used -= sequence.kv

    def plan(self) -> BatchStep:
        """What the next step computes, and for how long. Admits who fits."""
        decodes = [sequence for sequence in self._running if sequence.prefilled >= sequence.prompt]
        budget = max(self._timing.max_batch_tokens - len(decodes), 1)
        prefills = []
        for sequence in self._running:
            if budget and sequence.prefilled < sequence.prompt:
                prefills.append((sequence, min(budget, sequence.prompt - sequence.prefilled)))
                budget -= prefills[-1][1]
        while budget and (admitted := self._admit()):
            prefills.append((admitted, min(budget, admitted.prompt)))
            budget -= prefills[-1][1]
        return BatchStep(prefills, decodes, self._cost(sum(tokens for _, tokens in prefills), len(decodes)))

    def apply(self, step: BatchStep) -> None:
        """The step is over: its tokens are there. The step that ends a prompt gives its first token."""
        for sequence, tokens in step.prefills:
            sequence.prefilled += tokens
            if sequence.prefilled >= sequence.prompt:
                self._advance(sequence)
        for sequence in step.decodes:
            self._advance(sequence)

    def _admit(self) -> Sequence | None:
        while self._waiting:
            sequence = self._waiting[0][2]
            if not sequence.closed and self.kv_used + sequence.kv > self._timing.kv_tokens:
                return None  # strictly in order: a small one behind it must not starve it
            heapq.heappop(self._waiting)
            if not sequence.closed:
                self._running[sequence] = None
                self.kv_used += sequence.kv
                return sequence
        return None

    def _advance(self, sequence: Sequence) -> None:
        if sequence.closed:
            return
        sequence.advance()
        if sequence.produced >= sequence.output:
            self.remove(sequence)

    def _cost(self, prefill_tokens: int, decodes: int) -> float:
        timing = self._timing
        return timing.step_us + timing.prefill_us_per_token * prefill_tokens + timing.decode_us_per_sequence * decodes
