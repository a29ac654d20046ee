"""How long it took, over time: one measure at a time, as quantiles, whole or split by model or lane.

Time to first token, queue and total come from the projection `latency` when everybody's whole hours or days are asked
for; a single tenant's, minutes, and the pace of tokens from the rows. All are sketches with an error of 1 %.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from analytics.latency import SKETCH
from analytics.questions import utc_ms
from analytics.spending import Statement
from contracts.errors import InvalidRequest

# What is measured, in ms. Between two tokens: of one request the mean, so a request with one token has none.
_GAP = "if(completion_tokens > 1, dateDiff('millisecond', first_token_at, finished_at) / (completion_tokens - 1), NULL)"
MEASURES = {"ttft": "ttft_ms", "gap": _GAP, "queue": "queue_ms", "total": "total_ms"}
QUANTILES = ("p50", "p95", "p99")
SPLITS = {"model": "model", "lane": "lane"}
_TIMES = {  # the coarser two by the hour, as the projection keeps them
    "minute": ("toStartOfMinute(event_time)", 60),
    "hour": ("toStartOfHour(event_time)", 3600),
    "day": ("toDate(toStartOfHour(event_time))", 86_400),
}
_ONLY = ("tenant", "model", "lane")


@dataclass(frozen=True, slots=True)
class LatencySeries:
    """Of requests, without waste, that ended in [since, until), to now without an end. `tenant`: whose alone, and ""
    for everybody's, which operators may see. Raises InvalidRequest on what can't be asked."""

    tenant: str
    resolution: str
    since: datetime
    until: datetime | None = None
    split: str = ""
    only: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.resolution not in _TIMES:
            raise InvalidRequest(f"The resolution is {', '.join(_TIMES)}; not {self.resolution}.", param="resolution")
        if self.split and self.split not in SPLITS:
            raise InvalidRequest(f"Latency is split by {', '.join(SPLITS)}; not by {self.split}.", param="split")
        if unknown := set(self.only) - set(_ONLY):
            raise InvalidRequest(f"Latency can't be filtered by {', '.join(sorted(unknown))}.")
        if self.tenant and self.only.get("tenant", self.tenant) != self.tenant:
            raise InvalidRequest("That is another tenant's.", param="tenant")

    def quantiles(self, measure: str) -> Statement:
        """Columns: the time, the split, requests, p50, p95, p99 (ms; NaN where nothing came so far as to have one)."""
        if measure not in MEASURES:
            raise InvalidRequest(f"Measured are {', '.join(MEASURES)}; not {measure}.", param="measure")
        sketch = f"{SKETCH}({MEASURES[measure]}) AS quantiles"
        inner, parameters = self._grouped("count() AS n_requests", sketch)
        some = ", ".join(f"quantiles[{place}] AS {name}" for place, name in enumerate(QUANTILES, 1))
        return (
            f"SELECT {self._names()}, n_requests AS requests, {some} FROM ({inner}) ORDER BY {self._names()}",
            parameters,
        )

    def whole(self) -> Statement:
        """The period in one, by model and lane: p50 and p95 of each measure (ms)."""
        sketches = [f"{SKETCH}({source}) AS {name}" for name, source in MEASURES.items()]
        where, parameters = self._where()
        measures = ", ".join(("count() AS n_requests", *sketches, "sum(completion_tokens) AS n_tokens"))
        inner = f"SELECT model, lane, {measures} FROM usage WHERE {where} GROUP BY model, lane"
        some = [f"{name}[{place}] AS {name}_{q}" for name in MEASURES for place, q in ((1, "p50"), (2, "p95"))]
        columns = ", ".join(("model", "lane", "n_requests AS requests", *some, "n_tokens AS completion_tokens"))
        return f"SELECT {columns} FROM ({inner}) ORDER BY requests DESC, model, lane", parameters

    def pace(self) -> Statement:
        """Tokens out, and these per second of the time: a request's tokens count when it ends."""
        inner, parameters = self._grouped("count() AS n_requests", "sum(completion_tokens) AS n_tokens")
        columns = f"{self._names()}, n_requests AS requests, n_tokens AS completion_tokens"
        rate = f"n_tokens / {_TIMES[self.resolution][1]} AS tokens_per_second"
        return f"SELECT {columns}, {rate} FROM ({inner}) ORDER BY {self._names()}", parameters

    def _names(self) -> str:
        return ", ".join((self.resolution, *([self.split] if self.split else [])))

    def _grouped(self, *measures: str) -> Statement:
        where, parameters = self._where()
        groups = [f"{_TIMES[self.resolution][0]} AS {self.resolution}", *([self.split] if self.split else [])]
        columns = ", ".join((*groups, *measures))
        return f"SELECT {columns} FROM usage WHERE {where} GROUP BY {self._names()}", parameters

    def _where(self) -> Statement:
        only = {**self.only, **({"tenant": self.tenant} if self.tenant else {})}
        parameters: dict[str, Any] = {f"only_{name}": value for name, value in only.items()}
        where = ["kind = 'usage'", *(f"{name} = {{only_{name}:String}}" for name in only)]
        for name, sign, bound in (("since", ">=", self.since), ("until", "<", self.until)):
            if bound:
                where.append(f"{self._time()} {sign} fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')")
                parameters[name] = utc_ms(bound)
        return " AND ".join(where), parameters

    def _time(self) -> str:
        """What a period is compared with: the projection knows hours."""
        return "event_time" if self.resolution == "minute" else "toStartOfHour(event_time)"
