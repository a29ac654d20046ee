"""What counts: a service's time series, made from the declarations in contracts/metrics.py.

A series is looked up by its labels' values, as in `RUNS["small", "batch", "failed"].inc()`, at the price of a dict's
look-up. They live as long as the process, in the client library's own registry: what runs beside us and uses that too
(vLLM does) is served at the same port.
"""

from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from typing import Any, Generic, TypeVar

import prometheus_client
import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from contracts.metrics import Metric

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
log = structlog.get_logger()
_hooks: dict[str, Callable[[], None]] = {}
C = TypeVar("C", Counter, Gauge, Histogram)
Labels = str | tuple[str, ...]


class Series(dict[Labels, C], Generic[C]):
    """By the values of the metric's labels, in the declared order: one alone, several, or `()` for a metric without."""

    def __init__(self, family: C) -> None:
        super().__init__()
        self._family: Any = family

    def __missing__(self, values: Labels) -> C:
        child: C = self._family if values == () else self._family.labels(*_several(values))
        self[values] = child
        return child

    def preset(self, *values: Iterable[str]) -> None:
        """So that they are there from the start, at 0: all combinations of each label's values."""
        for combination in product(*values):
            self[combination[0] if len(combination) == 1 else combination]

    def forget(self) -> None:
        """All of them: what isn't told anew is no longer so."""
        self._family.clear()
        self.clear()


@cache
def counters(metric: Metric) -> Series[Counter]:
    assert metric.kind == "counter"
    return Series(Counter(metric.name, metric.help, metric.labels))


@cache
def gauges(metric: Metric) -> Series[Gauge]:
    assert metric.kind == "gauge"
    return Series(Gauge(metric.name, metric.help, metric.labels))


@cache
def histograms(metric: Metric) -> Series[Histogram]:
    assert metric.kind == "histogram"
    return Series(Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets))


def _several(values: Labels) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else values


def before_scrape(name: str, hook: Callable[[], None]) -> None:
    """`hook` sets gauges whose values are somewhere already; of one name the last one counts."""
    _hooks[name] = hook


def exposition(accept: str) -> tuple[bytes, str]:
    """The text that Prometheus reads, and its content type."""
    for name, hook in _hooks.items():
        try:
            hook()
        except Exception:
            log.exception("some metrics can't be read", of=name)  # the others count for the more
    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY), content_type
