"""Everything that is declared is there at the first scrapes of a fresh process, and nothing has been counted yet."""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from contracts.metrics import (
    EVERY_SERVICE,
    GPU_MEMORY,
    GPU_MEMORY_LIMIT,
    GPU_UTILIZATION,
    PROCESS,
    SERVICES,
    Metric,
)
from contracts.settings import Settings
from millrace.ports import free_port
from tests.inference.harness import worker_process
from tests.streams.live import running, streams_process
from tests.support.analytics import process_of
from tests.support.ingress import ingress_process
from tests.support.until import until

pytestmark = pytest.mark.broker
SHIPPED = Path(str(files("contracts").joinpath("routes.toml")))
OF_A_GPU = {GPU_MEMORY, GPU_MEMORY_LIMIT, GPU_UTILIZATION}  # where there is none, a 0 would be an idle one
NAMES = ("ingress", "streams", "worker", "analytics")
Series = Mapping[str, list[Sample]]


@pytest.fixture
async def ports(settings: Settings, tmp_path: Path) -> AsyncIterator[dict[str, int]]:
    """Of each service's metrics; nobody asks anything of these services."""
    ports = {name: free_port() for name in NAMES}
    of = {name: settings.model_copy(update={"routes_file": SHIPPED, "metrics_port": ports[name]}) for name in NAMES}
    worker = worker_process(of["worker"], tmp_path, metrics_port=str(ports["worker"]))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            running(streams_process(of["streams"], tmp_path), worker, process_of(of["analytics"], tmp_path))
        )
        await stack.enter_async_context(ingress_process(of["ingress"]))
        yield ports


async def scrape(port: int) -> Series:
    found: defaultdict[str, list[Sample]] = defaultdict(list)
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append(sample)
    return found


def names_of(metrics: Iterable[Metric]) -> set[str]:
    return {name for metric in metrics if metric not in OF_A_GPU for name in metric.series}


async def test_series_are_there_from_the_start_at_0(ports: dict[str, int]) -> None:
    """What is looked up every few seconds (lags, reservations) takes as long to be there."""
    seen: dict[str, Series] = {}
    missing: dict[str, set[str]] = {}

    async def all_there() -> bool:
        for name, port in ports.items():
            seen[name] = await scrape(port)
            missing[name] = names_of([*SERVICES[name], *EVERY_SERVICE, *PROCESS]) - seen[name].keys()
        return not any(missing.values())

    try:
        await until(all_there)
    except TimeoutError:
        raise AssertionError(missing) from None
    for name, series in seen.items():
        counted = names_of(metric for metric in SERVICES[name] if metric.kind != "gauge")
        told = [sample for series_name in counted for sample in series[series_name] if sample.value]
        assert [sample for sample in told if sample.labels.get("route") != "/readyz"] == [], name
    check_labels(seen)


def check_labels(seen: Mapping[str, Series]) -> None:
    """Of what can go wrong, each way has its series before it does."""

    def values(service: str, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in seen[service][name]}

    answers = seen["ingress"]["millrace_http_requests_total"]
    chat = {sample.labels["code"] for sample in answers if sample.labels["route"] == "/v1/chat/completions"}
    assert chat >= {"200", "202", "400", "401", "404", "410", "413", "422", "429", "500", "502", "503", "504", "529"}
    stages = {"dedupe", "meter", "settle", "worker", "sink", "feedback", "engine_time", "duplicates"}
    put_aside = "millrace_dead_letters_total"
    assert set().union(*(values(name, put_aside, "stage") for name in ("streams", "worker", "analytics"))) >= stages
    source = (files("streams").joinpath("route.py")).read_text()
    codes = set(re.findall(r'Refusal\(\s*\d{3}, "(\w+)"', source))
    assert "over_capacity" in codes
    assert values("streams", "millrace_route_refusals_total", "code") >= codes
