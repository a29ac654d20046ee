"""Declarations say what Prometheus expects, series are there from the start, and each process serves its own."""

import asyncio
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contracts.instruments import before_scrape, counters, exposition, gauges, histograms
from contracts.metrics import ALL, SERVICES, Metric
from contracts.metrics_port import metrics_port
from contracts.settings import Settings
from tests.support.metering import value

MADE_UP = Metric("test_things_total", "counter", "", "things", ("kind", "colour"))
PLAIN = Metric("test_depth_seconds", "histogram", "seconds", "how deep", (), (1.0, 2.0))
LEVEL = Metric("test_level_ratio", "gauge", "ratio", "how full")
PERSONAL = {"tenant", "user", "key", "api_key", "idempotency_key", "feature"}


@pytest.mark.parametrize("metric", ALL.values(), ids=lambda metric: metric.name)
def test_names_follow_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    unit = metric.name.removesuffix("_total").rpartition("_")[2]
    if not metric.name.startswith("gen_ai_client_token_usage"):  # OTel's name, whose unit is {token}
        assert metric.unit in ("", unit) or metric.unit in ("requests", "tokens"), (metric.unit, unit)
    assert not PERSONAL & set(metric.labels)
    assert metric.help


def test_a_name_stands_once_for_one_thing() -> None:
    for metrics in SERVICES.values():
        assert len({metric.name for metric in metrics}) == len(metrics)


def test_series_are_there_before_anything_happens() -> None:
    counters(MADE_UP).preset(("round", "square"), ("red", "blue"))
    assert value(MADE_UP, "square", "red") == 0
    counters(MADE_UP)["square", "red"].inc(2)
    histograms(PLAIN)[()].observe(1.5)
    assert (value(MADE_UP, "square", "red"), value(MADE_UP, "round", "blue"), value(PLAIN)) == (2, 0, 1)


def test_what_is_not_told_anew_is_gone() -> None:
    gauges(LEVEL)[()].set(0.5)
    assert value(LEVEL) == 0.5
    labelled = Metric("test_lag_records", "gauge", "records", "lag", ("group",))
    gauges(labelled)["a"].set(3)
    gauges(labelled).forget()
    assert value(labelled, "a") is None
    gauges(labelled)["a"].set(4)
    assert value(labelled, "a") == 4


@pytest.fixture
def broken_hook() -> Iterator[None]:
    def fail() -> None:
        raise RuntimeError("not now")

    before_scrape("test", fail)
    yield
    before_scrape("test", lambda: None)


@pytest.mark.usefixtures("broken_hook")
def test_a_hook_that_fails_costs_the_others_nothing() -> None:
    before_scrape("test 2", lambda: gauges(LEVEL)[()].set(0.25))
    text, _ = exposition("text/plain")
    assert b"test_level_ratio 0.25\n" in text


async def test_the_port_serves_both_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(metrics_port=0)
    async with (
        metrics_port(settings, "worker") as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        plain = await http.get("/metrics")
        assert (plain.status_code, plain.headers["content-type"].partition(";")[0]) == (200, "text/plain")
        families: dict[str, Any] = {family.name: family for family in text_string_to_metric_families(plain.text)}
        [sample] = families["millrace_build_info"].samples
        assert (sample.labels["service"], sample.value) == ("worker", 1)
        assert not [name for name in families if name.endswith("_created")]
        modern = await http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert modern.headers["content-type"].startswith("application/openmetrics-text")
        assert modern.text.endswith("# EOF\n")
        assert (await http.get("/")).status_code == 404


async def test_a_port_that_is_taken_stops_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        async with metrics_port(Settings(metrics_port=other.getsockname()[1]), "ingress") as port:
            assert port is None
    await asyncio.sleep(0)
