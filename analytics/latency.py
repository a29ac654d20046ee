"""How long it took: quantiles of time to first token, time in the queue, and the whole, by model, lane and hour.

The quantiles are DDSketches with a relative error of 1 % (https://arxiv.org/abs/1908.10693), kept by the hour in the
projection `latency`; so a period is widened to whole hours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from analytics.clickhouse import Client
from analytics.questions import utc_ms
from contracts.errors import InvalidRequest

_HOUR = timedelta(hours=1)
_DIMENSIONS = {
    "model": "model",
    "lane": "lane",
    "hour": "toStartOfHour(event_time)",
    "day": "toDate(toStartOfHour(event_time))",
}
_TIMES = ("hour", "day")
SKETCH = "quantilesDD(0.01, 0.5, 0.95, 0.99)"
_MEASURES = ("count()", *(f"{SKETCH}({name})" for name in ("ttft_ms", "queue_ms", "total_ms")))


@dataclass(frozen=True, slots=True)
class LatencyLine:
    """Milliseconds, each as (p50, p95, p99); NaN where nothing came so far as to have one."""

    group: tuple[str | date | datetime, ...]
    requests: int
    ttft_ms: tuple[float, float, float]
    queue_ms: tuple[float, float, float]
    total_ms: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Of requests, without waste. Raises InvalidRequest on an unknown dimension."""

    by: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    only: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.by, *self.only):
            if name not in _DIMENSIONS or (name in self.only and name in _TIMES):
                raise InvalidRequest(f"Latency can be split by {', '.join(_DIMENSIONS)}; not by {name}.", param="by")

    def sql(self) -> tuple[str, dict[str, Any]]:
        """The statement and its parameters."""
        parameters: dict[str, Any] = {f"only_{name}": value for name, value in self.only.items()}
        where = ["kind = 'usage'", *(f"{_DIMENSIONS[name]} = {{only_{name}:String}}" for name in self.only)]
        for name, sign, bound in (("since", ">=", _floor(self.since)), ("until", "<", _ceil(self.until))):
            if bound:
                where.append(f"toStartOfHour(event_time) {sign} fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')")
                parameters[name] = utc_ms(bound)
        groups = [_DIMENSIONS[name] for name in self.by]
        statement = f"SELECT {', '.join((*groups, *_MEASURES))} FROM usage WHERE {' AND '.join(where)}"  # noqa: S608
        if groups:
            times = [_DIMENSIONS[name] for name in self.by if name in _TIMES]
            statement += f" GROUP BY {', '.join(groups)} ORDER BY {', '.join((*times, *groups))}"
        return statement, parameters

    def lines(self, client: Client) -> list[LatencyLine]:
        """Blocking. By time where that was asked. Raises ClickHouseError."""
        statement, parameters = self.sql()
        width = len(self.by)
        rows = client.query(statement, parameters=parameters).result_rows
        return [LatencyLine(tuple(r[:width]), r[width], *(tuple(some) for some in r[width + 1 :])) for r in rows]


def _floor(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0) if moment else None


def _ceil(moment: datetime | None) -> datetime | None:
    floor = _floor(moment)
    return floor + _HOUR if floor and floor != moment else floor
