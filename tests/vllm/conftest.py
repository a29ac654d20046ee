"""Only where vLLM is installed. One tiny model, one engine and one server of vLLM's own for the whole session."""

import os
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from contracts.catalogue import ModelSpec
from contracts.settings import Settings
from inference.engines.vllm import VllmEngine
from millrace.child_process import ChildProcess
from millrace.polling import until
from millrace.ports import free_port

ROOT = Path(__file__).parents[2]
CPU = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
CONCURRENT = 64
collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]
if find_spec("vllm"):
    os.environ.update(CPU)  # before anything imports the libraries that read it
READY_SECONDS = 600.0  # half a minute on a quiet machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.filterwarnings("default"))  # vLLM's own aren't ours to mend


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.vllm.tiny_model import make_tiny_model  # noqa: PLC0415 - only where transformers is installed

    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def vllm_settings() -> Settings:
    """float32: with bfloat16 the same prompt gives other text alone and in a batch."""
    return Settings(
        worker_engine="vllm",
        worker_max_in_flight=CONCURRENT,
        vllm_dtype="float32",
        vllm_gpu_memory_utilization=0.3,
        vllm_enforce_eager=True,
    )


@pytest.fixture(scope="session")
async def engine(tiny_model: Path, vllm_settings: Settings) -> AsyncIterator[VllmEngine]:
    engine = VllmEngine("small", ModelSpec(source=str(tiny_model)), vllm_settings)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
async def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """vLLM's own OpenAI server; its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tiny_model)]
    command += ["--served-model-name", "tiny", "--dtype", "float32", "--enforce-eager", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--gpu-memory-utilization", "0.3", "--enable-prompt-tokens-details"]
    log = tmp_path_factory.mktemp("server") / "server.log"
    process = await ChildProcess.spawn(command, environment=os.environ, log=log)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

        async def healthy() -> bool:
            try:
                return (await client.get("/health")).is_success
            except httpx.TransportError:
                return False

        await process.until_ready(until(healthy), name="vLLM's server", limit_seconds=READY_SECONDS)
    yield f"http://127.0.0.1:{port}"
    await process.stop(30)
