"""The synthetic engine: no model, real scheduling. Deterministic words, at the pace of a batching engine.

For machines without a GPU, for tests, and for measuring everything that isn't the model: with all timings 0 it
answers at once.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from contracts.catalogue import ModelSpec
from contracts.errors import EngineFailed
from contracts.settings import EngineName, Settings
from inference.engine import CANCELLED, ContextLengthExceeded, EngineOverloaded, Finish, Job, Load, Step, check_context
from inference.engines.prefix_cache import PrefixCache
from inference.engines.synthetic_answers import RIGHT, WRONG, Answers
from inference.engines.synthetic_batch import Batch, Sequence
from inference.engines.synthetic_logprobs import logprobs_of
from inference.engines.synthetic_text import Script, prompt_text, write_script

_MAX_LAG_SECONDS = 0.05  # how far its clock may run behind on a busy machine before the lost time stays lost


class SyntheticEngine:
    name: EngineName = "synthetic"
    capacity: int | None = None

    def __init__(self, model: str, spec: ModelSpec, settings: Settings) -> None:
        timing = spec.synthetic
        self._model = model
        self._spec = spec
        self._faults = settings.synthetic_faults
        self._sampling = settings.synthetic_sampling
        self._instant = not (timing.step_us or timing.prefill_us_per_token or timing.decode_us_per_sequence)
        self._sequences: dict[int, Sequence] = {}  # by their job's id()
        self._cache = PrefixCache(timing.kv_tokens)
        self._arrived = asyncio.Event()
        self._answers = Answers(timing.answers) if timing.answers else None
        self._steps: asyncio.Task[None] | None = None
        self.batch = Batch(timing)

    async def start(self) -> None:
        if not self._instant:
            self._steps = asyncio.create_task(self._run(), name=f"synthetic {self._model}")

    async def close(self) -> None:
        if self._steps:
            self._steps.cancel()
            await asyncio.wait({self._steps})

    def continues(self, job: Job) -> bool:  # noqa: ARG002
        return True

    def cancel(self, job: Job) -> bool:
        sequence = self._sequences.get(id(job))
        if sequence is None:
            return False
        self.batch.remove(sequence)
        sequence.news.set()
        return True

    def load(self) -> Load | None:
        batch = self.batch
        running = batch.running
        return None if self._instant else Load(running, len(self._sequences) - running, batch.kv_usage)

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        script, finish = self._decide(job)
        fault = self._scripted_fault(job.body) if self._faults else None
        if fault == "overload":
            raise EngineOverloaded("The engine is overloaded, as the request's metadata.synthetic_fault asked.")
        sequence = None if self._instant else self._enter(job, finish)
        logprobs = self._logprobs(job, len(script.words)) if job.weighed else []
        total, sent = len(script.words), _begun(job)
        begun = sent
        fresh = finish.prompt_tokens - finish.cached_tokens + begun
        try:
            while True:
                more = await _progress(sequence) if sequence else 1 if job.stream and not sent else total
                produced = max(min(begun + more, total), begun)
                if sequence and sequence.cut:
                    yield Step(script.text(sent, produced), produced - sent, _cut(finish, produced))
                    return
                last = produced == total
                if fault and (sent or last):
                    await _break(fault)
                text, end = script.text(sent, produced), finish if last else None
                sure = logprobs[sent:produced]
                yield Step(text, produced - sent, end, fresh_tokens=fresh, token_logprobs=sure)
                if last:
                    return
                sent = produced
        finally:
            if sequence:
                del self._sequences[id(job)]
                self.batch.remove(sequence)

    def _decide(self, job: Job) -> tuple[Script, Finish]:
        """The whole answer, before its time. Raises ContextLengthExceeded."""
        prompt_tokens = job.prompt_estimate
        space = check_context(prompt_tokens, job.max_tokens, self._spec.context_tokens)
        default = min(space, self._spec.default_output_tokens)
        words = os.urandom(16) if self._sampling and _is_sampled(job.body) else job.fingerprint.encode()
        script = write_script(job, default, words)
        if len(script.words) > 1 and (right := self._right(job)) is not None:
            script.words[1:2] = [RIGHT if right else WRONG]
        if prompt_tokens + len(script.words) > self._spec.synthetic.kv_tokens:
            raise ContextLengthExceeded("The prompt and its answer don't fit into this engine's KV cache together.")
        prompt = prompt_text(job.operation, job.body).encode()
        cached = min(self._cache.match_and_insert(prompt), prompt_tokens - 1)
        return script, Finish(script.reason, prompt_tokens, len(script.words), cached)

    def _logprobs(self, job: Job, tokens: int) -> list[float]:
        timing = self._spec.synthetic
        if self._faults and (asked := (job.body.get("metadata") or {}).get("synthetic_logprob")):
            return logprobs_of(job, float(asked), 0.0, tokens)
        wrong = timing.answers.wrong_mean_logprob if timing.answers and self._right(job) is False else None
        return logprobs_of(job, timing.mean_logprob if wrong is None else wrong, timing.logprob_spread, tokens)

    def _scripted_fault(self, body: dict[str, Any]) -> str | None:
        metadata = body.get("metadata") or {}
        ours = metadata.get("synthetic_fault_of", self._model) == self._model
        return metadata.get("synthetic_fault") if ours else None

    def _right(self, job: Job) -> bool | None:
        return self._answers.right(job.operation, job.body) if self._answers else None

    def _enter(self, job: Job, finish: Finish) -> Sequence:
        begun = _begun(job)
        output = max(finish.completion_tokens - begun, 1)
        sequence = Sequence(
            prompt=finish.prompt_tokens - finish.cached_tokens + begun,
            output=output,
            kv=finish.prompt_tokens + begun + output,
            priority=job.priority,
            every_token=job.stream,
        )
        self._sequences[id(job)] = sequence
        self.batch.add(sequence)
        self._arrived.set()
        return sequence

    async def _run(self) -> None:
        """The step loop. Kept against an absolute clock: timers are coarser than a step."""
        clock = asyncio.get_running_loop().time
        over = clock()
        while True:
            if not self.batch.busy:
                self._arrived.clear()
                await self._arrived.wait()
                over = clock()
            step = self.batch.plan()
            over = max(over + step.cost_us / 1e6, clock() - _MAX_LAG_SECONDS)
            await asyncio.sleep(max(over - clock(), 0))
            self.batch.apply(step)


async def _progress(sequence: Sequence) -> int:
    await sequence.news.wait()
    sequence.news.clear()
    return sequence.produced


def _cut(finish: Finish, produced: int) -> Finish:
    if not produced:
        return Finish(CANCELLED, 0, 0)
    return replace(finish, reason=CANCELLED, completion_tokens=produced)


def _begun(job: Job) -> int:
    """Tokens of the answer that an earlier run has published."""
    return job.prefix.tokens if job.prefix else 0


def _is_sampled(body: dict[str, Any]) -> bool:
    return bool(body.get("temperature")) and body.get("seed") is None


async def _break(fault: str) -> None:
    """After the first token and before the last: where a crash leaves most behind."""
    if fault == "error":
        raise EngineFailed("The engine failed, as the request's metadata.synthetic_fault asked.")
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        await asyncio.Event().wait()
