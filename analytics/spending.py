"""What was spent, by whom, when, and on which requests: the cost explorer's questions, each as one statement.

A statement's columns have the names that its reader knows, so it can be shown, copied and run as it is.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from analytics.questions import TIMES, Question
from contracts.errors import InvalidRequest

Statement = tuple[str, dict[str, Any]]
MOST_GROUPS = 3  # dimensions at once: more and a chart tells nothing

# Of single requests, adjustments and credits.
_COLUMNS = (
    "event_time, kind, tenant, idempotency_key, user, feature, model, model_version, route, lane, outcome, "
    "prompt_tokens, cached_tokens, completion_tokens, total_ms, cost_nano, price_version, reason, "
    "topic, partition, offset"
)
_GROUP_MEASURES = {
    "requests": "sumIf(n, kind = 'usage')",
    "prompt_tokens": "sumIf(n_prompt, kind = 'usage')",
    "cached_tokens": "sumIf(n_cached, kind = 'usage')",
    "completion_tokens": "sumIf(n_completion, kind = 'usage')",
    "cost_nano": "sumIf(n_nano, kind != 'waste')",
}
_SERIES_MEASURES = {"n_requests": "sumIf(n, kind = 'usage')", "nano": "sumIf(n_nano, kind != 'waste')"}


@dataclass(frozen=True, slots=True)
class Spending:
    """In [since, until), to now without an end. `tenant`: whose alone, and "" for everybody's, which operators may
    see. `by`: dimensions other than times. Raises InvalidRequest on what is none, and on another tenant's."""

    tenant: str
    by: tuple[str, ...]
    since: datetime
    until: datetime | None = None
    only: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if named := set(self.by) & set(TIMES):
            raise InvalidRequest(f"Time is the chart's axis, not a group: {', '.join(sorted(named))}.", param="by")
        if self.tenant and self.only.get("tenant", self.tenant) != self.tenant:
            raise InvalidRequest("That is another tenant's.", param="tenant")
        if len([name for name in self.by if name.startswith("tag:")]) > 1 or len(self.by) > MOST_GROUPS:
            raise InvalidRequest(f"Group by at most {MOST_GROUPS} dimensions, and one tag.", param="by")
        self._question()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, one for each dimension."""
        return tuple("tag" if name.startswith("tag:") else name for name in self.by)

    def groups(self, most: int) -> Statement:
        """The dearest `most`. In each row beside its own figures: the cost of all groups, and how many there are."""
        statement, parameters = self._question().sql(_GROUP_MEASURES)
        columns = [*self._named(), *_GROUP_MEASURES]
        columns += ["sum(cost_nano) OVER () AS all_nano", "count() OVER () AS all_groups"]
        order = ", ".join(("cost_nano DESC", *self.names))
        return f"SELECT {', '.join(columns)} FROM ({statement}) ORDER BY {order} LIMIT {int(most)}", parameters

    def series(self, resolution: str, most: int) -> Statement:
        """By time, the dearest `most` groups of the whole period, and what is left in one that has `rest` = 1."""
        if resolution not in TIMES:
            raise InvalidRequest(f"The resolution is {', '.join(TIMES)}; not {resolution}.", param="resolution")
        inner, parameters = self._question(resolution).sql(_SERIES_MEASURES)
        groups = [f"d{number}" for number in range(1, len(self.by) + 1)]
        # A group's points stay together while it is ranked: groups are few, points are many.
        kept = ", ".join((*groups, "sum(nano) AS whole", "groupArray((d0, n_requests, nano)) AS points"))
        within = f" GROUP BY {', '.join(groups)}" if groups else ""
        wholes = f"SELECT {kept} FROM ({inner}){within}"
        place = ", ".join(("whole DESC", *groups))
        placed = f"SELECT *, row_number() OVER (ORDER BY {place}) AS place FROM ({wholes})"
        names = [f"if(place > {int(most)}, '', {g}) AS {name}" for g, name in zip(groups, self.names, strict=True)]
        columns = [f"point.1 AS {resolution}", *names, f"place > {int(most)} AS rest"]
        sums = "sum(point.2) AS requests, sum(point.3) AS cost_nano"
        keys = ", ".join((resolution, *self.names, "rest"))
        points = f"SELECT {', '.join(columns)}, {sums} FROM ({placed}) ARRAY JOIN points AS point GROUP BY {keys}"
        return f"{points} ORDER BY {', '.join((resolution, 'rest', *self.names))}", parameters

    def requests(self, most: int, skip: int = 0) -> Statement:
        """Single ones, the dearest first, with the adjustments and credits that are part of the cost."""
        where, parameters = self._question().where()
        conditions = " AND ".join(["kind != 'waste'", *where])
        order = "cost_nano DESC, event_time DESC, event_id"
        page = f"LIMIT {int(most)} OFFSET {int(skip)}"
        return f"SELECT {_COLUMNS} FROM usage WHERE {conditions} ORDER BY {order} {page}", parameters

    def _named(self) -> list[str]:
        return [f"d{number} AS {name}" for number, name in enumerate(self.names)]

    def _question(self, *times: str) -> Question:
        only = {**self.only, **({"tenant": self.tenant} if self.tenant else {})}
        return Question((*times, *self.by), self.since, self.until, only)


# Up to so long a period, so fine.
_FINE = (("minute", timedelta(hours=6)), ("hour", timedelta(days=7)), ("day", timedelta(days=120)))


def resolution_of(since: datetime, until: datetime) -> str:
    """As fine as a chart can show."""
    return next((name for name, most in _FINE if until - since <= most + timedelta(minutes=1)), "month")


def begins(moment: datetime, resolution: str) -> datetime:
    """The minute, hour, day or month (UTC) that it lies in, so that a chart's first bar is a whole one."""
    start = moment.astimezone(UTC).replace(second=0, microsecond=0)
    if resolution == "minute":
        return start
    start = start.replace(minute=0)
    if resolution == "hour":
        return start
    return start.replace(hour=0) if resolution == "day" else start.replace(hour=0, day=1)
