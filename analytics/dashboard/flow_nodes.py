"""The pipeline's picture as figures: one node for each place where a request can be, and a tone where it hurts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analytics.dashboard.kafka_offsets import Moment
from contracts.envelope import Lane
from contracts.topics import LANES, Topics

_WARN_SECONDS, _BAD_SECONDS = 2.0, 10.0  # of work that waits, at the pace of now
_FEW = 20  # records that may wait without anybody minding
_WARN_SHARE, _BAD_SHARE = 0.01, 0.05  # of errors
_PACE = 3  # looks that a rate is taken over
_STILL_SECONDS, _STILL_RUNNING_SECONDS = 10.0, 28.0  # a stage without progress; a lane, where answers take their time


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the ledger's last minute: in all, and by model and lane."""

    whole: Mapping[str, Any]
    lanes: Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Pace:
    """Kafka's figures over the last few looks."""

    moments: Sequence[Moment]

    def written(self, topic: str) -> float | None:
        """Records a second; None until there are two looks."""
        return self._rate([moment.ends.get(topic, 0) for moment in self.moments])

    def read(self, group: str, *topics: str) -> float | None:
        return self._rate([sum(moment.done.get((group, topic), 0) for topic in topics) for moment in self.moments])

    def lag(self, group: str, *topics: str) -> int | None:
        if not self.moments:
            return None
        return sum(self.moments[-1].lags.get((group, topic), 0) for topic in topics)

    def records(self, topic: str) -> int | None:
        return self.moments[-1].ends.get(topic) if self.moments else None

    def still(self, group: str, *topics: str) -> float:
        """Seconds for which a group has finished nothing, as far as is known."""
        counts = [sum(moment.done.get((group, topic), 0) for topic in topics) for moment in self.moments]
        same = next((n for n in range(len(counts)) if counts[n] == counts[-1]), 0)
        return self.moments[-1].at - self.moments[same].at if counts else 0.0

    def _rate(self, counts: Sequence[int]) -> float | None:
        if len(counts) < 2:
            return None
        counts, moments = counts[-_PACE:], self.moments[-_PACE:]
        passed = moments[-1].at - moments[0].at
        return max(0.0, round((counts[-1] - counts[0]) / max(passed, 1e-3), 2))


@dataclass(frozen=True, slots=True)
class Load:
    """What a place has to do and how it keeps up. `waits`: whether its lag is work that waits, and not what runs."""

    rate: float | None
    lag: int | None = None
    drained: float | None = None  # records a second that leave it, when that isn't `rate`
    stuck: bool = False
    waits: bool = True

    @property
    def behind(self) -> float | None:
        """Seconds until what waits is done, at the pace of now; None when nothing moves, or nothing is known."""
        if not self.waits or self.lag is None:
            return None
        rate = self.rate if self.drained is None else self.drained
        if not self.lag:
            return 0.0
        return round(self.lag / rate, 1) if rate else None


def nodes(topics: Topics, models: Sequence[str], moments: Sequence[Moment], figures: Figures) -> list[dict[str, Any]]:
    """In the order of the flow."""
    pace, whole, app = Pace(moments), figures.whole, topics.streams_app
    works = {model: [topics.work(model, lane) for lane in LANES] for model in models}
    running = [pace.lag(topics.worker_group(model), *works[model]) for model in models]
    return [
        _node("ingress", Load(pace.written(topics.requests))) | {"records": pace.records(topics.requests)},
        _node("dedupe", _stage(pace, app, topics.requests), p99_ms=whole.get("dedupe_p99_ms")),
        _node("meter", _stage(pace, app, topics.admitted), p99_ms=whole.get("meter_p99_ms"), ended=(whole, "rejected")),
        *(_lane(topics, pace, model, lane, figures) for model in models for lane in LANES),
        _node(
            "workers",
            Load(pace.written(topics.completions), _sum(running), waits=False),
            p99_ms=whole.get("run_p99_ms"),
            ended=(whole, "failed", "expired"),
        ),
        _node("settle", _stage(pace, app, topics.completions), p99_ms=whole.get("completions_p99_ms")),
        _node("sink", _stage(pace, topics.sink_group, topics.usage), p99_ms=whole.get("sink_p99_ms")),
        _dead_letters(pace, topics.dead_letters),
    ]


def _stage(pace: Pace, group: str, topic: str) -> Load:
    stuck = pace.still(group, topic) >= _STILL_SECONDS
    return Load(pace.read(group, topic), pace.lag(group, topic), stuck=stuck)


def _lane(topics: Topics, pace: Pace, model: str, lane: Lane, figures: Figures) -> dict[str, Any]:
    group, topic = topics.worker_group(model), topics.work(model, lane)
    known = figures.lanes.get((model, lane), {})
    stuck = pace.still(group, topic) >= _STILL_RUNNING_SECONDS
    load = Load(pace.written(topic), pace.lag(group, topic), pace.read(group, topic), stuck)
    node = _node(f"work:{model}:{lane}", load, p99_ms=known.get("queue_p99_ms"), ended=(known, "failed", "expired"))
    return node | {
        "model": model,
        "lane": lane,
        "run_p99_ms": number(known.get("run_p99_ms")),
        "ttft_p99_ms": number(known.get("ttft_p99_ms")),
        "completion_tokens": known.get("completion_tokens", 0),
    }


def _dead_letters(pace: Pace, topic: str) -> dict[str, Any]:
    rate = pace.written(topic)
    bad = {"tone": "bad", "why": "records are being put aside"} if rate else {}
    return _node("dead-letters", Load(rate)) | {"records": pace.records(topic)} | bad


def _node(id_: str, load: Load, *, p99_ms: float | None = None, ended: tuple[Any, ...] | None = None) -> dict[str, Any]:
    """`ended`: how requests ended in the last minute, and the names of those ends that are errors here."""
    errors, share = _errors(*ended) if ended else (None, 0.0)
    tone, why = _tone(load, share, "refused" if id_ == "meter" else "failed")
    return {
        "id": id_,
        "rate": load.rate,
        "lag": load.lag,
        "behind_s": load.behind,
        "p99_ms": number(p99_ms),
        "errors": errors,
        "error_share": share,
        "tone": tone,
        "why": why,
    }


def _errors(figures: Mapping[str, Any], *names: str) -> tuple[int | None, float]:
    """None when nothing is known."""
    if not figures:
        return None, 0.0
    errors = sum(figures[name] for name in names)
    return errors, round(errors / figures["ended"], 4) if figures["ended"] else 0.0


def _tone(load: Load, share: float, ended: str) -> tuple[str, str]:
    waiting = load.waits and (load.lag or 0) > _FEW
    behind = (load.behind or 0.0) if waiting else 0.0
    for errors, wait, tone in ((_BAD_SHARE, _BAD_SECONDS, "bad"), (_WARN_SHARE, _WARN_SECONDS, "warn")):
        if share >= errors:
            return tone, f"{share:.0%} of the last minute's requests {ended}"
        if waiting and load.stuck:
            return "bad", "work waits and nothing moves"
        if behind >= wait:
            return tone, f"{behind:.0f} s of work wait"
    return "", ""


def _sum(values: Any) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def number(value: Any) -> float | None:
    """ClickHouse's quantile over nothing is NaN."""
    return None if value is None or math.isnan(value) else round(float(value), 1)
