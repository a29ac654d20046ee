"""Every metric: its name, labels, unit and meaning. Nothing else in the code spells a metric's name.

Names follow Prometheus (base units, `_total` on counters), and OpenTelemetry's semantic conventions where these have
one: `gen_ai.server.time_to_first_token` is `gen_ai_server_time_to_first_token_seconds`, with the buckets and attributes
that the convention asks for. No label names a tenant, a user or a key: these have no bound, and the ledger has them.
Sources: https://prometheus.io/docs/practices/naming, https://github.com/open-telemetry/semantic-conventions-genai
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Unit = Literal["", "seconds", "bytes", "dollars", "ratio", "records", "requests", "tokens", "events", "info"]

_PARTS: dict[Kind, tuple[str, ...]] = {
    "counter": ("",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` as a query spells it; a histogram's series are that and `_bucket`, `_sum`, `_count`."""

    name: str
    kind: Kind
    unit: Unit
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(self.name + part for part in _PARTS[self.kind])


def _counter(name: str, unit: Unit, about: str, *labels: str) -> Metric:
    return Metric(name, "counter", unit, about, labels)


def _gauge(name: str, unit: Unit, about: str, *labels: str) -> Metric:
    return Metric(name, "gauge", unit, about, labels)


def _histogram(name: str, unit: Unit, about: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, "histogram", unit, about, labels, buckets)


_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_WAITING = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
_DOLLARS = (0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_BLOCK = (1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000)
# Those that the semantic conventions ask for.
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_OUTPUT_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(float(4**power) for power in range(14))
_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")

# Every service
BUILD_INFO = _gauge("millrace_build_info", "info", "1; the labels say what runs", "service", "version")
DISK_FREE = _gauge(
    "millrace_disk_free_bytes", "bytes", "room on the disk of a service's data: `streams`, `ledger`", "volume"
)
DEAD_LETTERS = _counter(
    "millrace_dead_letters_total", "", "records put aside on `dead-letters`, by the stage that did", "stage"
)
POISON = _gauge(
    "millrace_poison_ratio",
    "ratio",
    "dead letters among a stage's last records, of the most that it takes: at 1 it stops",
    "stage",
)

# Ingress
HTTP_REQUESTS = _counter("millrace_http_requests_total", "", "answers, by status", "method", "route", "code")
HTTP_DURATION = _histogram(
    "millrace_http_request_duration_seconds",
    "seconds",
    "from a request's head to its answer's last byte: a stream's whole life",
    _LATENCY,
    "method",
    "route",
)
HTTP_IN_FLIGHT = _gauge("millrace_http_in_flight_requests", "requests", "requests that are being answered")
OPEN_STREAMS = _gauge(
    "millrace_http_open_streams", "", "streams that are being sent: over `sse`, or over a `websocket`", "transport"
)
WEBSOCKETS = _gauge("millrace_http_open_websockets", "", "WebSocket connections")
CALLERS = _gauge("millrace_callers_waiting", "", "callers, streamed or not, who wait for news of their request")
KAFKA_UP = _gauge("millrace_kafka_up", "", "1 while Kafka acknowledges what this ingress writes, 0 while it refuses")

# Streams
DEDUPE = _counter(
    "millrace_dedupe_decisions_total",
    "",
    "requests to run: `new`; answered from what is stored (`replayed`); joined to the one run (`attached`); refused "
    "for another body (`reused`) or too many who wait (`crowded`); read again after a crash (`again`)",
    "decision",
)
ADMITTED = _counter(
    "millrace_admitted_requests_total", "", "requests let through to a model, by the rule that chose it",
    "model", "lane", "rule",
)  # fmt: skip
ADMITTED_TOKENS = _counter(
    "millrace_admitted_tokens_total", "tokens", "tokens that these may use, as estimated: prompt and answer",
    "model", "lane",
)  # fmt: skip
LIMITED = _counter(
    "millrace_limit_refusals_total", "", "requests turned away by a limit, by the figure that was short", "measure"
)
UNROUTED = _counter("millrace_route_refusals_total", "", "requests that no model can serve, by the error", "code")
REQUESTS = _counter(
    "millrace_requests_total", "", "requests that have ended, each once; model is empty where none was chosen",
    "model", "lane", "outcome",
)  # fmt: skip
COST = _histogram("millrace_request_cost_dollars", "dollars", "what a request was billed", _DOLLARS, "model")
TOKEN_USAGE = _histogram(
    "gen_ai_client_token_usage",
    "tokens",
    "gen_ai.client.token.usage: billed tokens of a request",
    _TOKENS,
    *_GEN_AI,
    "gen_ai_token_type",
)
WASTE = _counter("millrace_wasted_runs_total", "", "outcomes that came after the first one: not billed", "model")
WASTE_TOKENS = _counter("millrace_wasted_tokens_total", "tokens", "prompt and answer of these", "model")
RESERVATIONS = _gauge(
    "millrace_open_reservations", "requests", "requests that hold a reservation, in this process's partitions", "model"
)
RESERVED_TOKENS = _gauge("millrace_reserved_tokens", "tokens", "tokens that these hold", "model")
RESERVATION_AGE = _gauge("millrace_oldest_reservation_seconds", "seconds", "age of the oldest of these", "model")
STAGE_RECORDS = _counter("millrace_stage_records_total", "records", "records that a stage has decided", "stage")
STAGE_FAILURES = _counter(
    "millrace_stage_failures_total", "", "records on which a stage failed: their callers got a 500", "stage"
)
PARTITIONS = _gauge("millrace_streams_partitions", "", "partitions of a table that this process owns", "table")
LAG = _gauge(
    "millrace_lag_records",
    "records",
    "records that a consumer group has not finished, whether it lives or not; each streams process tells the same",
    "group",
    "topic",
)
LAG_TOKENS = _gauge(
    "millrace_lag_tokens",
    "tokens",
    "tokens that these stand for on a model's lane, as estimated; each streams process tells the same",
    "model",
    "lane",
)

# Workers
FIRST_TOKEN = _histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "seconds",
    "gen_ai.server.time_to_first_token: from acceptance, so with queue and prefill; of successes",
    _FIRST_TOKEN,
    *_GEN_AI,
    "lane",
)
OUTPUT_TOKEN = _histogram(
    "gen_ai_server_time_per_output_token_seconds",
    "seconds",
    "gen_ai.server.time_per_output_token: mean time between a success's tokens after the first",
    _OUTPUT_TOKEN,
    *_GEN_AI,
    "lane",
)
DURATION = _histogram(
    "gen_ai_server_request_duration_seconds",
    "seconds",
    "gen_ai.server.request.duration: from acceptance to the last token; error_type is the error's code",
    _DURATION,
    *_GEN_AI,
    "lane",
    "error_type",
)
QUEUE_WAIT = _histogram(
    "millrace_queue_wait_seconds", "seconds", "from acceptance to the engine", _WAITING, "model", "lane"
)
QUEUE = _gauge("millrace_queue_requests", "requests", "requests read ahead that wait for room", "model", "lane")
QUEUE_TOKENS = _gauge("millrace_queue_tokens", "tokens", "tokens that these were estimated at", "model", "lane")
QUEUE_AGE = _gauge(
    "millrace_queue_oldest_seconds", "seconds", "since the acceptance of the oldest of these", "model", "lane"
)
RUNNING = _gauge("millrace_engine_running_requests", "requests", "the engine's batch", "model")
WAITING = _gauge(
    "millrace_engine_waiting_requests", "requests", "requests that the engine has beside its batch", "model"
)
ROOM = _gauge("millrace_engine_capacity_requests", "requests", "the most that the engine is given at once", "model")
KV_USAGE = _gauge("millrace_engine_kv_usage_ratio", "ratio", "share of the KV cache in use", "model")
ENGINE_TOKENS = _counter(
    "millrace_engine_tokens_total",
    "tokens",
    "tokens processed, as they come: `prompt` (of these `cached` from the prefix cache), `completion`",
    "model",
    "lane",
    "type",
)
ENGINE_BUSY = _counter("millrace_engine_busy_seconds_total", "seconds", "time in which the engine had work", "model")
RUNS = _counter(
    "millrace_runs_total",
    "",
    "runs that have ended in this worker; `escalated`: another model's follows; `shadowed` and, not run, `left_out`: "
    "for nobody but to compare",
    "model",
    "lane",
    "outcome",
)
RETRIES = _counter(
    "millrace_retries_total", "", "runs made again: the try before `hung`, or its worker `died`", "model", "cause"
)
RESUMED = _counter("millrace_resumed_streams_total", "", "streams that go on where a lost worker left them", "model")
GIVEN_UP = _counter("millrace_given_up_requests_total", "", "requests whose tries were spent", "model")
WORKER_PARTITIONS = _gauge("millrace_worker_partitions", "", "work partitions that this worker holds", "model", "lane")
GPU_UTILIZATION = _gauge("hw_gpu_utilization_ratio", "ratio", "hw.gpu.utilization, by NVML", "hw_id", "hw_name")
GPU_MEMORY = _gauge("hw_gpu_memory_usage_bytes", "bytes", "hw.gpu.memory.usage, by NVML", "hw_id", "hw_name")
GPU_MEMORY_LIMIT = _gauge("hw_gpu_memory_limit_bytes", "bytes", "hw.gpu.memory.limit, by NVML", "hw_id", "hw_name")

# Analytics
SINK_EVENTS = _counter("millrace_sink_events_total", "events", "usage events that the ledger has taken")
SINK_BLOCK = _histogram("millrace_sink_block_records", "records", "usage events in one insert", _BLOCK)
SINK_STORE = _histogram("millrace_sink_store_seconds", "seconds", "one insert", _LATENCY)
SINK_FAILURES = _counter("millrace_sink_failures_total", "", "inserts that failed; each is tried again")
SINK_LAG = _gauge("millrace_sink_lag_records", "records", "usage events in Kafka that the ledger hasn't")
SINK_BEHIND = _gauge("millrace_sink_behind_seconds", "seconds", "age of the oldest event that waits for the ledger")
SINK_UP = _gauge("millrace_sink_up", "", "1 while the sink can store")

EVERY_SERVICE = (BUILD_INFO,)
INGRESS = (HTTP_REQUESTS, HTTP_DURATION, HTTP_IN_FLIGHT, OPEN_STREAMS, WEBSOCKETS, CALLERS, KAFKA_UP)
STREAMS = (
    DEDUPE,
    ADMITTED,
    ADMITTED_TOKENS,
    LIMITED,
    UNROUTED,
    REQUESTS,
    COST,
    TOKEN_USAGE,
    WASTE,
    WASTE_TOKENS,
    RESERVATIONS,
    RESERVED_TOKENS,
    RESERVATION_AGE,
    STAGE_RECORDS,
    STAGE_FAILURES,
    PARTITIONS,
    LAG,
    LAG_TOKENS,
    DEAD_LETTERS,
    POISON,
    DISK_FREE,
)
WORKER = (
    FIRST_TOKEN,
    OUTPUT_TOKEN,
    DURATION,
    QUEUE_WAIT,
    QUEUE,
    QUEUE_TOKENS,
    QUEUE_AGE,
    RUNNING,
    WAITING,
    ROOM,
    KV_USAGE,
    ENGINE_TOKENS,
    ENGINE_BUSY,
    RUNS,
    RETRIES,
    RESUMED,
    GIVEN_UP,
    WORKER_PARTITIONS,
    DEAD_LETTERS,
    POISON,
    GPU_UTILIZATION,
    GPU_MEMORY,
    GPU_MEMORY_LIMIT,
)
ANALYTICS = (
    SINK_EVENTS,
    SINK_BLOCK,
    SINK_STORE,
    SINK_FAILURES,
    SINK_LAG,
    SINK_BEHIND,
    SINK_UP,
    DEAD_LETTERS,
    POISON,
    DISK_FREE,
)

# What the client library adds of its own, as far as dashboards and alerts use it.
PROCESS = (
    _counter("process_cpu_seconds_total", "seconds", "CPU time, user and system"),
    _gauge("process_resident_memory_bytes", "bytes", "resident memory"),
    _gauge("process_start_time_seconds", "seconds", "start, UNIX time"),
    _gauge("process_open_fds", "", "open file descriptors"),
    _gauge("process_max_fds", "", "the most that there may be"),
)
SERVICES: dict[str, tuple[Metric, ...]] = {
    "every service": EVERY_SERVICE + PROCESS,
    "ingress": INGRESS,
    "streams": STREAMS,
    "worker": WORKER,
    "analytics": ANALYTICS,
}
ALL: dict[str, Metric] = {metric.name: metric for metrics in SERVICES.values() for metric in metrics}
