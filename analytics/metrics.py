"""What analytics tells Prometheus: of the sink, as it is at each scrape."""

import shutil
import time
from pathlib import Path

from analytics.health import Health
from contracts.instruments import before_scrape, counters, gauges, histograms
from contracts.metrics import (
    DEAD_LETTERS,
    DISK_FREE,
    POISON,
    SINK_BEHIND,
    SINK_BLOCK,
    SINK_EVENTS,
    SINK_FAILURES,
    SINK_LAG,
    SINK_STORE,
    SINK_UP,
)
from contracts.poison_limit import PoisonLimit
from contracts.settings import Settings

stored = counters(SINK_EVENTS)[()]
blocks = histograms(SINK_BLOCK)[()]
stores = histograms(SINK_STORE)[()]
failures = counters(SINK_FAILURES)[()]
dead_letters = counters(DEAD_LETTERS)


def watch(settings: Settings, health: Health, poison: PoisonLimit) -> None:
    """From now on each scrape asks these."""
    dead_letters.preset(["sink"])
    disk = None if settings.clickhouse_url else settings.clickhouse_path.absolute()

    def tell() -> None:
        waiting = health.waiting_since_ms
        gauges(SINK_LAG)[()].set(health.lag + health.waiting)
        gauges(SINK_BEHIND)[()].set(0 if waiting is None else max(0.0, time.time() - waiting / 1000))
        gauges(SINK_UP)[()].set(health.ready)
        gauges(POISON)["sink"].set(poison.ratio)
        if disk:
            gauges(DISK_FREE)["ledger"].set(_free(disk))

    before_scrape("sink", tell)


def _free(folder: Path) -> int:
    """Of the disk that it is on, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
