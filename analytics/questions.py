"""How the ledger answers a question about sums: from a projection where one knows the dimensions, else from its rows.

A projection knows whole days or hours, so a period is cut: its whole days (hours) come from the projection, what is
left at both ends from the rows. The pieces add up exactly. SQL is put together from this file's own words; what a
caller gives travels as a parameter.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from contracts.errors import InvalidRequest

DIMENSIONS = {
    "tenant": "tenant",
    "user": "user",
    "feature": "feature",
    "tag:NAME": "tags[{NAME:String}]",
    "model": "model",
    "model_version": "model_version",
    "requested_model": "requested_model",
    "api_key_id": "api_key_id",
    "route": "route",
    "outcome": "outcome",
    "lane": "lane",
    "operation": "operation",
    "engine": "engine",
    "price_version": "price_version",
    "minute": "toStartOfMinute(event_time)",
    "hour": "toStartOfHour(event_time)",
    "day": "toDate(event_time)",
    "month": "toStartOfMonth(toDate(event_time))",
}
TIMES = ("minute", "hour", "day", "month")
_TAG = re.compile(r"tag:(\S{1,255})")
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000

# What a projection sums up by kind, and under which name it goes on; no name is a column's.
_SUMS = {
    "n": "count()",
    "n_prompt": "sum(prompt_tokens)",
    "n_cached": "sum(cached_tokens)",
    "n_completion": "sum(completion_tokens)",
    "n_engine_us": "sum(engine_us)",
    "n_nano": "sum(cost_nano)",
    "n_gpu_nano": "sum(gpu_nano)",
}


@dataclass(frozen=True, slots=True)
class Projection:
    """One of the table's, by what it knows; `unit` is the length of its time key, ms."""

    name: str
    dimensions: frozenset[str]
    unit: int
    time: str


PROJECTIONS = (
    Projection("hourly", frozenset({"tenant", "hour"}), _HOUR_MS, "toStartOfHour(event_time)"),
    Projection(
        "daily",
        frozenset({"tenant", "feature", "model", "model_version", "day", "month"}),
        _DAY_MS,
        "toDate(event_time)",
    ),
    Projection("users", frozenset({"tenant", "user", "day", "month"}), _DAY_MS, "toDate(event_time)"),
)


@dataclass(frozen=True, slots=True)
class Question:
    """Sums by `by`, of rows with `only`, in [since, until), UTC. Raises InvalidRequest on an unknown dimension."""

    by: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    only: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.by, *self.only):
            if name not in DIMENSIONS and not _TAG.fullmatch(name):
                raise InvalidRequest(f"Cost can be split by {', '.join(DIMENSIONS)}; not by {name}.", param="by")
        if named := set(self.only) & set(TIMES):
            raise InvalidRequest(f"A period is given by --since and --until, not by {', '.join(sorted(named))}.")
        if len(set(self.by)) != len(self.by):
            raise InvalidRequest("Each dimension can be named once.", param="by")

    @property
    def projection(self) -> Projection | None:
        """The first that knows every dimension that is asked for."""
        asked = {*self.by, *self.only}
        return next((known for known in PROJECTIONS if asked <= known.dimensions), None)

    def sql(self, measures: Mapping[str, str], order: str = "") -> tuple[str, dict[str, Any]]:
        """The statement and its parameters: in order of time where that was asked, else of `order`; in none without
        it. `measures` are expressions over `kind` and the names of _SUMS; one column each, after one for each
        dimension."""
        parameters: dict[str, Any] = {}
        groups = [f"d{number}" for number in range(len(self.by))]
        pieces = " UNION ALL ".join(self._piece(where, parameters) for where in self._cuts(parameters))
        columns = [*groups, *(f"{expression} AS {name}" for name, expression in measures.items())]
        statement = f"SELECT {', '.join(columns)} FROM ({pieces})"  # noqa: S608 - our own words
        if groups:
            statement += f" GROUP BY {', '.join(groups)}"
        if groups and order:
            times = [group for group, name in zip(groups, self.by, strict=True) if name in TIMES]
            statement += f" ORDER BY {', '.join(times or (order, *groups))}"
        return statement, parameters

    def where(self) -> tuple[list[str], dict[str, Any]]:
        """Conditions on single rows, and their parameters."""
        parameters: dict[str, Any] = {}
        since, until = (utc_ms(bound) if bound else None for bound in (self.since, self.until))
        return [*_between("event_time", since, until, parameters, ""), *self._filters(parameters)], parameters

    def _piece(self, period: Sequence[str], parameters: dict[str, Any]) -> str:
        groups = [f"{self._expression(name, parameters)} AS d{number}" for number, name in enumerate(self.by)]
        where = [*period, *self._filters(parameters)]
        keys = [*(f"d{number}" for number in range(len(self.by))), "kind"]
        columns = [*groups, "kind", *(f"{expression} AS {name}" for name, expression in _SUMS.items())]
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        return f"SELECT {', '.join(columns)} FROM usage{condition} GROUP BY {', '.join(keys)}"  # noqa: S608

    def _filters(self, parameters: dict[str, Any]) -> list[str]:
        found = []
        for number, (name, value) in enumerate(self.only.items()):
            parameters[f"only{number}"] = value
            found.append(f"{self._expression(name, parameters)} = {{only{number}:String}}")
        return found

    def _expression(self, name: str, parameters: dict[str, Any]) -> str:
        tag = _TAG.fullmatch(name)
        if not tag:
            return DIMENSIONS[name]
        place = f"tag{[*self.by, *self.only].index(name)}"
        parameters[place] = tag[1]
        return f"tags[{{{place}:String}}]"

    def _cuts(self, parameters: dict[str, Any]) -> Iterator[list[str]]:
        """The period's pieces, each as its conditions."""
        since, until = (utc_ms(bound) if bound else None for bound in (self.since, self.until))
        known = self.projection
        if known is None:
            yield _between("event_time", since, until, parameters, "")
            return
        first = None if since is None else -(-since // known.unit) * known.unit
        last = None if until is None else until // known.unit * known.unit
        if first is not None and last is not None and first >= last:
            yield _between("event_time", since, until, parameters, "")
            return
        yield _between(known.time, first, last, parameters, "whole_")
        if since != first:
            yield _between("event_time", since, first, parameters, "head_")
        if until != last:
            yield _between("event_time", last, until, parameters, "tail_")


def _between(time: str, since: int | None, until: int | None, parameters: dict[str, Any], prefix: str) -> list[str]:
    found = []
    for name, sign, bound in (("since", ">=", since), ("until", "<", until)):
        if bound is not None:
            parameters[f"{prefix}{name}"] = bound
            found.append(f"{time} {sign} fromUnixTimestamp64Milli({{{prefix}{name}:Int64}}, 'UTC')")
    return found


def utc_ms(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1000)
