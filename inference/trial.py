"""A first attempt: its answer is weighed as it comes, and a stream is held back until it is known that it stands.

Nothing that was sent is ever taken back. So a stream that isn't lost within the time and length that the policy sets
stands from then on, and what had gathered goes out at once; an answer that isn't streamed is weighed to its end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from contracts.cascade import Cascade, Doubt
from inference.answer import Answer
from inference.engine import CANCELLED, Job, Step
from inference.gate import Gate

Emit = Callable[[Step], Awaitable[None]]


class AlreadyEscalated(Exception):  # noqa: N818 - what it says is why there is nothing to do
    """An earlier run of this attempt has handed the request on."""


class Trial:
    """An async context around a run. `now_ms` is UTC; `emit` sends a step of a stream, none: it isn't streamed."""

    def __init__(
        self, cascade: Cascade, job: Job, answer: Answer, now_ms: Callable[[], int], emit: Emit | None
    ) -> None:
        self.doubt: Doubt | None = None  # why the answer doesn't stand
        self._cascade = cascade
        self._deadline = job.deadline
        self._gate = Gate(cascade, job.body)
        self._answer = answer
        self._now_ms = now_ms
        self._emit = emit
        self._stands = False
        self._held: list[Step] = []
        self._lock = asyncio.Lock()  # steps leave in order, whoever sends them
        self._patience: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._emit:
            self._patience = asyncio.create_task(self._wait())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._patience:
            self._patience.cancel()
            with suppress(asyncio.CancelledError):
                await self._patience

    async def take(self, step: Step) -> bool:
        """A step that the answer has got. False when the answer doesn't stand, and need not go on."""
        async with self._lock:
            if not self._stands:
                self._gate.add(step)
                self._held.append(step)
                self._weigh(step)
                if self._stands:
                    await self._release()
            elif self._emit:
                await self._emit(step)
            return self.doubt is None

    def _weigh(self, step: Step) -> None:
        finish = step.finish
        if finish and finish.reason == CANCELLED:
            self._stands = True
        elif self._gate.lost() or finish or (self._emit and self._answer.tokens >= self._cascade.hold_tokens):
            self._decide()

    def _decide(self) -> None:
        self.doubt = self._gate.doubt(self._answer) if self._in_time else None
        self._stands = self.doubt is None

    @property
    def _in_time(self) -> bool:
        """Whether another attempt may begin before the deadline."""
        return self._deadline is None or self._now_ms() + self._cascade.min_left_ms <= self._deadline

    async def _release(self) -> None:
        held, self._held = self._held, []
        if self._emit:
            for step in held:
                await self._emit(step)

    async def _wait(self) -> None:
        await asyncio.sleep(self._cascade.hold_ms / 1000)
        async with self._lock:
            if not self._stands and self.doubt is None:
                self._decide()
                if self._stands:
                    await self._release()
