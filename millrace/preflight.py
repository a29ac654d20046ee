"""What can be known to be wrong before anything is started: disk, ports, engine. One sentence each."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import httpx

from contracts.errors import StackError
from contracts.settings import Settings
from millrace.kafka_config import HOST
from millrace.ports import check_port

_MIB = 1024 * 1024
_UPSTREAM_SECONDS = 5.0


def check_disk(folder: Path, min_free_mb: int) -> None:
    """MiB. Raises StackError."""
    free = shutil.disk_usage(folder).free // _MIB
    if free < min_free_mb:
        raise StackError(
            f"The disk of {folder} is full: {free} MiB are free and {min_free_mb} are needed; free some, name another "
            "folder with --data-dir, or lower MILLRACE_MIN_FREE_DISK_MB."
        )


def check_ports(services: Settings, kafka_port: int) -> None:
    """Raises StackError naming who has the port, and what to do."""
    check_port(services.ingress_host, services.ingress_port, purpose="HTTP", remedy="choose another with --port")
    check_port(HOST, kafka_port, purpose="Kafka", remedy="choose another with MILLRACE_KAFKA_PORT")
    if services.clickhouse_url is None:
        remedy = "choose another with MILLRACE_ANALYTICS_PORT"
        check_port(services.analytics_host, services.analytics_port, purpose="queries", remedy=remedy)


async def check_engine(services: Settings) -> None:
    """Raises StackError when the engine isn't installed, or its upstream isn't there."""
    if services.worker_engine == "vllm" and find_spec("vllm") is None:
        raise StackError("The vllm engine needs vLLM, which is not installed: pip install 'millrace[vllm]'.")
    if services.worker_engine == "openai":
        await _check_upstream(services)


async def _check_upstream(services: Settings) -> None:
    """Any answer will do, also a refusal: whether it serves the models is the worker's matter."""
    url = services.openai_base_url
    try:
        async with httpx.AsyncClient(timeout=_UPSTREAM_SECONDS) as client:
            await client.get(f"{url.rstrip('/')}/models")
    except (httpx.HTTPError, httpx.InvalidURL):
        raise StackError(
            f"The openai engine finds no server at {url}: start it, or set MILLRACE_OPENAI_BASE_URL."
        ) from None
