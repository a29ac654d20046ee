"""The vllm engine: `AsyncLLM` in this process (its core is a child process of it). vLLM 0.25 to 0.33.

Continuous batching, priorities, prefix caching and abort are vLLM's; this file only translates. Source:
https://docs.vllm.ai/en/latest/api/vllm/v1/engine/async_llm.html
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from inspect import isawaitable
from itertools import count
from typing import Any

from contracts.catalogue import ModelSpec
from contracts.errors import ConfigError, EngineFailed, InvalidRequest
from contracts.settings import EngineName, Settings
from inference.engine import CANCELLED, EngineDied, Finish, Job, Load, Step, check_context
from inference.engines.vllm_load import read_load
from inference.engines.vllm_request import (
    client_errors,
    completion_logprobs,
    output_tokens,
    prefix_tokens,
    render_prompt,
    sampling_params,
    token_logprobs,
    wants_logprobs,
)

_ENDS = {"stop", "length"}  # any other finish_reason means that vLLM gave up
_ABORTED = "abort"  # or was told to


class VllmEngine:
    name: EngineName = "vllm"
    capacity: int | None = None

    def __init__(self, model: str, spec: ModelSpec, settings: Settings) -> None:
        self._source = spec.source or model
        self._settings = settings
        self._requests = count(1)
        self._names: dict[int, str] = {}  # of jobs that vLLM has, by their id()
        self._aborting: set[asyncio.Task[None]] = set()
        # A tokenizer isn't safe in two threads at once, and a long prompt would hold up the event loop.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
        self._llm: Any = None
        self._tokenizer: Any = None
        self._context_tokens = 0

    async def start(self) -> None:
        """Loads the model, which takes from seconds to minutes. Raises ConfigError."""
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - seconds, and only where it is used
            from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError("The vllm engine needs vLLM: pip install 'millrace[vllm]'.") from error
        settings = self._settings
        try:
            self._llm = AsyncLLM.from_engine_args(
                AsyncEngineArgs(
                    model=self._source,
                    dtype=settings.vllm_dtype,
                    max_model_len=settings.vllm_max_model_len,
                    gpu_memory_utilization=settings.vllm_gpu_memory_utilization,
                    enforce_eager=settings.vllm_enforce_eager,
                    max_num_seqs=settings.worker_max_in_flight,
                    scheduling_policy="priority",
                    enable_prefix_caching=True,
                )
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"vLLM can't serve {self._source}: {reason}") from error
        tokenizer = self._llm.get_tokenizer()
        self._tokenizer = await tokenizer if isawaitable(tokenizer) else tokenizer
        self._context_tokens = self._llm.model_config.max_model_len

    async def close(self) -> None:
        self._tokenizing.shutdown(wait=False)
        llm, self._llm = self._llm, None
        if llm:
            llm.shutdown()

    def continues(self, job: Job) -> bool:
        """A grammar can't be entered in its middle."""
        return bool((job.body.get("response_format") or {}).get("type", "text") == "text")

    def load(self) -> Load | None:
        return read_load(self._source)

    def cancel(self, job: Job) -> bool:
        name = self._names.get(id(job))
        if name is None:
            return False
        task = asyncio.create_task(self._llm.abort(name))
        self._aborting.add(task)
        task.add_done_callback(self._aborting.discard)
        return True

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        from vllm import TokensPrompt  # noqa: PLC0415
        from vllm.v1.engine.exceptions import EngineDeadError  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._tokenizing, render_prompt, self._tokenizer, job)
        space = check_context(len(tokens), job.max_tokens, self._context_tokens)
        begun = await loop.run_in_executor(self._tokenizing, prefix_tokens, self._tokenizer, job)
        longest, produced = output_tokens(job, space), len(begun)
        if produced >= longest:
            yield Step("", 0, Finish("length", len(tokens), produced))
            return
        params = sampling_params(job, longest, produced)
        name = f"{job.key}-{next(self._requests)}"
        try:
            self._names[id(job)] = name
            prompt = TokensPrompt(prompt_token_ids=[*tokens, *begun])
            outputs = self._llm.generate(prompt, params, name, priority=job.priority)
            async with aclosing(outputs):
                async for output in outputs:
                    completion = output.outputs[0]
                    produced += len(completion.token_ids)
                    yield Step(
                        completion.text,
                        len(completion.token_ids),
                        _finish(output, len(tokens), produced) if output.finished else None,
                        logprobs=completion_logprobs(completion, params.logprobs or 0) if wants_logprobs(job) else None,
                        token_ids=completion.token_ids,
                        fresh_tokens=len(tokens) + len(begun) - (output.num_cached_tokens or 0),
                        token_logprobs=token_logprobs(completion) if job.weighed else (),
                    )
        except EngineDeadError as error:
            raise EngineDied("vLLM's engine process is gone.") from error
        except client_errors() as error:
            raise InvalidRequest(str(error)) from error
        finally:
            self._names.pop(id(job), None)


def _finish(output: Any, prompt_tokens: int, produced: int) -> Finish:
    reason = output.outputs[0].finish_reason
    if reason == _ABORTED:
        reason = CANCELLED
    elif reason not in _ENDS:
        raise EngineFailed("The engine stopped in the middle of the answer.")
    if not produced:
        prompt_tokens = 0
    latency = output.metrics.first_token_latency if output.metrics else 0.0  # seconds
    return Finish(
        reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=produced,
        cached_tokens=min(output.num_cached_tokens or 0, prompt_tokens),
        first_token_us=round(latency * 1e6) if latency > 0 else None,
    )
