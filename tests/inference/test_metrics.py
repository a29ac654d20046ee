"""What a worker tells of its runs, of what waits, of its engine and of the machine's GPUs."""

import time
from types import SimpleNamespace

import orjson
import prometheus_client
import pynvml
import pytest
from aiokafka import ConsumerRecord

from contracts.catalogue import ModelSpec
from contracts.completion import Completion
from contracts.envelope import Work
from contracts.errors import EngineFailed
from contracts.instruments import exposition
from contracts.metrics import (
    DURATION,
    ENGINE_TOKENS,
    FIRST_TOKEN,
    GPU_MEMORY,
    GPU_UTILIZATION,
    KV_USAGE,
    OUTPUT_TOKEN,
    QUEUE,
    QUEUE_AGE,
    QUEUE_TOKENS,
    RUNNING,
    RUNS,
    WORKER_PARTITIONS,
)
from contracts.outcomes import Outcome
from contracts.settings import Settings
from inference import gpu
from inference.engine import Load
from inference.engines.vllm_load import read_load
from inference.lane import Ticket, open_lanes
from inference.metrics import ModelMetrics, error_type
from tests.inference.jobs import ACCEPTED_AT, chat, work_headers
from tests.support.metering import rise, value

MODEL = "measured"
LABELS = ("chat", "vllm", MODEL, "org/measured", "interactive")


@pytest.fixture
def metrics() -> ModelMetrics:
    return ModelMetrics(MODEL, ModelSpec(source="org/measured"), "vllm")


def work() -> Work:
    return Work.from_headers(work_headers(orjson.dumps(chat()), key="acme:k"))


def completion(outcome: Outcome, **more: int) -> Completion:
    return Completion(outcome=outcome, started_at=ACCEPTED_AT + 100, finished_at=ACCEPTED_AT + 1_300, **more)


def total(name: str, labels: tuple[str, ...], names: tuple[str, ...]) -> float:
    found = prometheus_client.REGISTRY.get_sample_value(f"{name}_sum", dict(zip(names, labels, strict=True)))
    return found or 0.0


def test_a_success_is_timed_from_its_acceptance(metrics: ModelMetrics) -> None:
    runs, prompt = rise(RUNS, MODEL, "interactive", "succeeded"), rise(ENGINE_TOKENS, MODEL, "interactive", "prompt")
    first = total(FIRST_TOKEN.name, LABELS, FIRST_TOKEN.labels)
    ended = completion(
        Outcome.SUCCEEDED, first_token_at=ACCEPTED_AT + 300, prompt_tokens=9, completion_tokens=11, engine_us=500
    )
    metrics.ended(work(), ended, b"")
    assert (runs(), prompt()) == (1, 9)
    assert total(FIRST_TOKEN.name, LABELS, FIRST_TOKEN.labels) - first == pytest.approx(0.3)
    assert total(OUTPUT_TOKEN.name, LABELS, OUTPUT_TOKEN.labels) == pytest.approx(0.1)  # ten tokens in a second
    assert total(DURATION.name, (*LABELS, ""), DURATION.labels) == pytest.approx(1.3)


def test_a_failure_has_its_errors_code(metrics: ModelMetrics) -> None:
    failed, first = rise(DURATION, *LABELS, "engine_failed"), rise(FIRST_TOKEN, *LABELS)
    metrics.ended(work(), completion(Outcome.FAILED, status=500, completion_tokens=4), EngineFailed("It broke.").body())
    assert (failed(), first()) == (1, 0)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"error": null}', b'{"error": {"code": null}}'])
def test_an_error_without_a_code(body: bytes) -> None:
    assert error_type(body) == "_OTHER"


def test_tokens_are_told_as_they_came(metrics: ModelMetrics) -> None:
    more = rise(ENGINE_TOKENS, MODEL, "batch", "completion")
    metrics.generated["batch"] += 7
    metrics.tell_engine(Load(running=3, kv_usage=0.25), room=8)
    metrics.tell_engine(Load(running=3, kv_usage=0.25), room=8)
    assert (more(), value(RUNNING, MODEL), value(KV_USAGE, MODEL)) == (7, 3, 0.25)


def test_what_waits_in_a_lane(metrics: ModelMetrics) -> None:
    lane = open_lanes(MODEL, Settings())["interactive"]
    metrics.tell_lane(lane, 2)
    assert (value(QUEUE, MODEL, "interactive"), value(QUEUE_AGE, MODEL, "interactive")) == (0, 0)
    now = time.time_ns() // 1_000_000
    for number, age in enumerate((5_000, 60_000)):
        headers = work_headers(orjson.dumps(chat()), key=f"acme:k{number}", claim=f"0.{number}")
        record = ConsumerRecord("work", 0, number, now - age, 0, f"acme:k{number}".encode(), b"{}", None, 1, 2, headers)
        lane.put(Ticket.of(record, lane))
    metrics.tell_lane(lane, 2)
    assert (value(QUEUE, MODEL, "interactive"), value(QUEUE_TOKENS, MODEL, "interactive")) == (2, 200)
    assert value(QUEUE_AGE, MODEL, "interactive") == pytest.approx(60, abs=50)
    assert value(WORKER_PARTITIONS, MODEL, "interactive") == 2


def test_vllm_tells_by_its_own_metrics() -> None:
    assert read_load("org/measured") is None
    names = {"vllm:num_requests_running": 5, "vllm:num_requests_waiting": 2, "vllm:kv_cache_usage_perc": 0.5}
    gauges = {name: prometheus_client.Gauge(name, "as vLLM has it", ["model_name", "engine"]) for name in names}
    try:
        for name, gauge in gauges.items():
            gauge.labels("org/measured", "0").set(names[name])
            gauge.labels("another", "0").set(99)
        assert read_load("org/measured") == Load(5, 2, 0.5)
    finally:
        for gauge in gauges.values():
            prometheus_client.REGISTRY.unregister(gauge)


def test_a_gpu_is_asked_at_each_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = SimpleNamespace(gpu=75)
    told = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda _: "GPU-1",
        "nvmlDeviceGetName": lambda _: b"H100",
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=3, total=4),
        "nvmlDeviceGetUtilizationRates": lambda _: rates,
    }
    for name, answer in told.items():
        monkeypatch.setattr(pynvml, name, answer)
    gpu.watch_gpus()
    exposition("")
    assert (value(GPU_UTILIZATION, "GPU-1", "H100"), value(GPU_MEMORY, "GPU-1", "H100")) == (0.75, 3)
    rates.gpu = 10
    exposition("")
    assert value(GPU_UTILIZATION, "GPU-1", "H100") == 0.1


def test_without_a_driver_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    gpu.watch_gpus()
