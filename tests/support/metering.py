"""What a metric stands at, and how far it rises during a test, whatever others in this process have counted before."""

from collections.abc import Callable

from prometheus_client import REGISTRY

from contracts.metrics import Metric


def value(metric: Metric, *labels: str) -> float | None:
    """Of a counter or gauge; of a histogram the count. None when there is no such series."""
    name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
    return REGISTRY.get_sample_value(name, dict(zip(metric.labels, labels, strict=True)))


def rise(metric: Metric, *labels: str) -> Callable[[], float]:
    """By how much since now."""
    before = value(metric, *labels) or 0.0
    return lambda: (value(metric, *labels) or 0.0) - before
