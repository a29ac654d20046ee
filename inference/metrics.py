"""What a worker tells Prometheus of one model: each run as it ends, tokens as they come, and at a scrape what waits."""

import time

import orjson

from contracts.catalogue import ModelSpec
from contracts.completion import ESCALATED, SHADOWED, Completion, Escalation
from contracts.envelope import Operation, Work
from contracts.instruments import counters, gauges, histograms
from contracts.metrics import (
    DEAD_LETTERS,
    DURATION,
    ENGINE_BUSY,
    ENGINE_TOKENS,
    FIRST_TOKEN,
    GIVEN_UP,
    KV_USAGE,
    OUTPUT_TOKEN,
    QUEUE,
    QUEUE_AGE,
    QUEUE_TOKENS,
    QUEUE_WAIT,
    RESUMED,
    RETRIES,
    ROOM,
    RUNNING,
    RUNS,
    WAITING,
    WORKER_PARTITIONS,
)
from contracts.outcomes import Outcome
from contracts.settings import EngineName
from contracts.topics import LANES
from inference.engine import Load
from inference.lane import Lane

_OPERATIONS: tuple[Operation, ...] = ("chat", "text_completion")
LEFT_OUT = "left_out"
_TOKEN_TYPES = ("prompt", "cached", "completion")

_first_token, _output_token, _duration = histograms(FIRST_TOKEN), histograms(OUTPUT_TOKEN), histograms(DURATION)
_wait, _runs, _tokens = histograms(QUEUE_WAIT), counters(RUNS), counters(ENGINE_TOKENS)
_queue, _queue_tokens, _queue_age = gauges(QUEUE), gauges(QUEUE_TOKENS), gauges(QUEUE_AGE)


class ModelMetrics:
    """All its series are there from the start, at 0."""

    def __init__(self, model: str, spec: ModelSpec, engine: EngineName) -> None:
        self._model = model
        self._labels = (engine, model, spec.source or model)
        self._busy = counters(ENGINE_BUSY)[model]
        self.generated = dict.fromkeys(LANES, 0)  # tokens since the last scrape: one addition for each that comes
        self.resumed = counters(RESUMED)[model]
        self.given_up = counters(GIVEN_UP)[model]
        self.retries = {cause: counters(RETRIES)[model, cause] for cause in ("died", "hung")}
        counters(DEAD_LETTERS).preset(["worker"])
        _tokens.preset([model], LANES, _TOKEN_TYPES)
        _runs.preset([model], LANES, [*Outcome, ESCALATED, SHADOWED, LEFT_OUT])
        _wait.preset([model], LANES)
        labels = [[label] for label in self._labels]
        for family in (_first_token, _output_token):
            family.preset(_OPERATIONS, *labels, LANES)
        _duration.preset(_OPERATIONS, *labels, LANES, [""])
        for gauge in (_queue, _queue_tokens, _queue_age, gauges(WORKER_PARTITIONS)):
            gauge.preset([model], LANES)

    def shadowed(self, work: Work, completion: Completion) -> None:
        """A run that nobody waited for, whichever way it ended."""
        self._ran(work, completion, SHADOWED)

    def left_out(self, work: Work) -> None:
        """A shadow run that there was no room for."""
        _runs[self._model, work.lane, LEFT_OUT].inc()

    def ended(self, work: Work, completion: Completion | Escalation, body: bytes) -> None:
        """A run, whichever way; `body` is what its caller is told."""
        lane = work.lane
        self._ran(work, completion, completion.outcome)
        if completion.started_at is not None:
            _wait[self._model, lane].observe(max(0, completion.started_at - work.accepted_at) / 1000)
        labels = (work.operation, *self._labels, lane)
        failed = error_type(body) if completion.status >= 400 else ""
        _duration[(*labels, failed)].observe(max(0, completion.finished_at - work.accepted_at) / 1000)
        if completion.outcome is Outcome.SUCCEEDED and completion.first_token_at is not None:
            _first_token[labels].observe(max(0, completion.first_token_at - work.accepted_at) / 1000)
            if completion.completion_tokens > 1:
                after = max(0, completion.finished_at - completion.first_token_at) / 1000
                _output_token[labels].observe(after / (completion.completion_tokens - 1))

    def _ran(self, work: Work, completion: Completion | Escalation, outcome: str) -> None:
        model, lane = self._model, work.lane
        _runs[model, lane, outcome].inc()
        _tokens[model, lane, "prompt"].inc(completion.prompt_tokens)
        _tokens[model, lane, "cached"].inc(completion.cached_tokens)
        self._busy.inc(completion.engine_us / 1e6)

    def tell_lane(self, lane: Lane, partitions: int) -> None:
        """As it is now."""
        place = (self._model, lane.name)
        oldest = lane.oldest
        _queue[place].set(len(lane))
        _queue_tokens[place].set(lane.tokens)
        _queue_age[place].set(max(0, time.time() - oldest / 1000) if oldest else 0)
        gauges(WORKER_PARTITIONS)[place].set(partitions)

    def tell_engine(self, load: Load, room: int) -> None:
        for lane, tokens in self.generated.items():
            _tokens[self._model, lane, "completion"].inc(tokens)
            self.generated[lane] = 0
        gauges(RUNNING)[self._model].set(load.running)
        gauges(WAITING)[self._model].set(load.waiting)
        gauges(ROOM)[self._model].set(room)
        if load.kv_usage is not None:
            gauges(KV_USAGE)[self._model].set(load.kv_usage)


def error_type(body: bytes) -> str:
    """The code in OpenAI's error object, of which there are few."""
    try:
        return str(orjson.loads(body)["error"]["code"] or "_OTHER")
    except (ValueError, KeyError, TypeError):
        return "_OTHER"
