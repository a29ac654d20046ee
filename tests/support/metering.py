"""How far a metric rises during a test, whatever others in this process have counted before."""

from collections.abc import Callable

from contracts.instruments import value
from contracts.metrics import Metric


def rise(metric: Metric, *labels: str) -> Callable[[], float]:
    """By how much since now: of a histogram, its count."""
    before = value(metric, *labels) or 0.0
    return lambda: (value(metric, *labels) or 0.0) - before
