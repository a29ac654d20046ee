"""Latency: how long callers wait: for a first token, between tokens, in the queue, in all; tokens per second."""

from typing import Any

from analytics.dashboard.exact import named, sql_of
from analytics.dashboard.view import Answer, Asked, View
from analytics.latency_series import MEASURES, QUANTILES, SPLITS, LatencySeries
from analytics.spending import Statement, begins, resolution_of

view = View("latency", "Latency")

_RESOLUTIONS = ("auto", "minute", "hour", "day")
_SPLITS = ("", *SPLITS)


@view.get("quantiles")
async def quantiles(asked: Asked) -> Answer:
    """Of one measure over time."""
    series = _series(asked)
    statement = series.quantiles(asked.choice("measure", tuple(MEASURES), "ttft"))
    return await _answer(asked, series, statement)


@view.get("pace")
async def pace(asked: Asked) -> Answer:
    series = _series(asked)
    return await _answer(asked, series, series.pace())


@view.get("whole")
async def whole(asked: Asked) -> Answer:
    """The period in one, by model and lane."""
    series = _series(asked)
    return await _answer(asked, series, series.whole())


def _series(asked: Asked) -> LatencySeries:
    resolution = asked.choice("resolution", _RESOLUTIONS, "auto")
    if resolution == "auto":
        resolution = resolution_of(asked.since, asked.until)
    resolution = "day" if resolution == "month" else resolution
    only = named(asked, tuple(SPLITS))
    until = asked.until if asked.text("until") else None
    since = begins(asked.since, resolution)
    return LatencySeries(asked.tenant, resolution, since, until, asked.choice("split", _SPLITS, ""), only)


async def _answer(asked: Asked, series: LatencySeries, statement: Statement) -> Answer:
    rows = [_without_nan(row) for row in await asked.rows(*statement)]
    sql = await sql_of(asked, statement)
    return Answer(rows, sql, resolution=series.resolution, since=series.since, split=series.split, quantiles=QUANTILES)


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """Nothing had such a time: no figure."""
    return {name: None if value != value else value for name, value in row.items()}  # noqa: PLR0124 - NaN is not itself
