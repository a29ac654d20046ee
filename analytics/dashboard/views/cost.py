"""Cost: who spent what, on what and when, down to single requests; budgets, and what was saved."""

from datetime import UTC, datetime
from typing import Any

from analytics import budgets
from analytics.budgets import Account, Budget
from analytics.dashboard.exact import answer, most, named, nano_as_text, sql_of
from analytics.dashboard.policies import catalogue_of, limits_of
from analytics.dashboard.view import Answer, Asked, View
from analytics.questions import Question
from analytics.routing_report import largest
from analytics.savings import SavingsReport
from analytics.spending import Spending, Statement, begins, resolution_of
from contracts.errors import InvalidRequest
from contracts.prices import load_prices

view = View("cost", "Cost")

# What can be filtered by, each a parameter of its own; a tag as NAME=VALUE. `tenant` is the shell's.
FILTERS = (
    "feature",
    "user",
    "model",
    "model_version",
    "route",
    "outcome",
    "lane",
    "api_key_id",
    "requested_model",
    "operation",
    "engine",
)
_RESOLUTIONS = ("auto", "minute", "hour", "day", "month")
_GROUPS, _SERIES, _REQUESTS = 50, 7, 20  # rows of the table, colours of the chart, requests on a page
_MOST_POINTS = 800


@view.get("series")
async def series(asked: Asked) -> Answer:
    resolution = _resolution(asked)
    spending = _spending(asked, resolution)
    statement = spending.series(resolution, most(asked, _SERIES))
    return await answer(asked, statement, resolution=resolution, since=spending.since, names=spending.names)


@view.get("groups")
async def groups(asked: Asked) -> Answer:
    spending = _spending(asked, _resolution(asked))
    return await answer(asked, spending.groups(most(asked, _GROUPS)), names=spending.names)


@view.get("totals")
async def totals(asked: Asked) -> Answer:
    spending = _spending(asked, _resolution(asked), by=())
    return await answer(asked, spending.groups(1))


@view.get("requests")
async def requests(asked: Asked) -> Answer:
    skip = asked.number("skip", 0, 0, 10_000)
    spending = _spending(asked, _resolution(asked), by=())
    return await answer(asked, spending.requests(most(asked, _REQUESTS), skip), page_size=_REQUESTS)


@view.get("budgets")
async def budget_list(asked: Asked) -> Answer:
    now = _now()
    limits = await limits_of(asked)
    kinds = budgets.money_kinds(limits.values())
    statement = budgets.spending_by_day(asked.tenant, kinds, now)
    spent = await asked.read(lambda client: budgets.read_days(client, statement))
    rows = [_budget_row(one) for one in budgets.budgets(asked.tenant, limits, spent, now)]
    return Answer(nano_as_text(asked, rows), await sql_of(asked, statement))


@view.get("burndown")
async def burndown(asked: Asked) -> Answer:
    """This month of one account: whose is asked, as limits name it."""
    now, account = _now(), _account(asked)
    limits = await limits_of(asked) if account.tenant else {}
    limit = budgets.figure_for(limits, account, "dollars_per_month") if account.tenant else None
    statement = _days_of(account, now)
    days = {row["day"]: row["cost_nano"] for row in await asked.rows(*statement)}
    first, ends = budgets.month_begins(now), budgets.month_ends(now)
    was = budgets.burned(days, first, now)
    used = was[-1].used_nano
    rows = [_point(point, limit, "actual") for point in was]
    rows += [_point(point, limit, "forecast") for point in budgets.expected(days, used, now, ends)]
    forecast = budgets.forecast(days, used, limit, now, ends)
    figures = {"limit_nano": limit, "used_nano": used, **_forecast_row(forecast)}
    about = nano_as_text(asked, [figures])[0]
    return Answer(nano_as_text(asked, rows), await sql_of(asked, statement), about=about, begins=first, ends=ends)


@view.get("savings")
async def savings(asked: Asked) -> Answer:
    large = asked.text("large") or largest(await catalogue_of(asked))
    since = begins(asked.since, _resolution(asked))
    report = SavingsReport(load_prices(asked.settings.prices_file), large, since, asked.until, asked.tenant)
    return await answer(asked, await asked.read(report.sql), large=large)


def _spending(asked: Asked, resolution: str, by: tuple[str, ...] | None = None) -> Spending:
    groups = tuple(name for name in asked.text("by", "feature").split(",") if name) if by is None else by
    until = asked.until if asked.text("until") else None
    only = {**_filters(asked), **asked.only}
    return Spending(asked.tenant, groups, begins(asked.since, resolution), until, only)


def _filters(asked: Asked) -> dict[str, str]:
    found = named(asked, FILTERS)
    if asked.text("tag"):
        name, _, value = asked.text("tag").partition("=")
        found[f"tag:{name}"] = value
    return found


def _resolution(asked: Asked) -> str:
    """Raises InvalidRequest when it would be more than a chart can show."""
    given = asked.choice("resolution", _RESOLUTIONS, "auto")
    if given == "auto":
        return resolution_of(asked.since, asked.until)
    seconds = {"minute": 60, "hour": 3600, "day": 86_400}.get(given, 28 * 86_400)
    if (asked.until - asked.since).total_seconds() / seconds > _MOST_POINTS:
        raise InvalidRequest(f"By the {given} that is more than {_MOST_POINTS} points.", param="resolution")
    return given


def _now() -> datetime:
    return datetime.now(UTC)


def _account(asked: Asked) -> Account:
    """Raises InvalidRequest for a user of no tenant."""
    names = named(asked, ("user", "feature", "api_key"))
    if names and not asked.tenant:
        raise InvalidRequest("Name the tenant too: no budget spans tenants.", param="tenant")
    return Account(asked.tenant, **names)


def _days_of(account: Account, now: datetime) -> Statement:
    columns = {"tenant": account.tenant or None, "user": account.user, "feature": account.feature}
    only = {name: value for name, value in {**columns, "api_key_id": account.api_key}.items() if value is not None}
    question = Question(("day",), budgets.looks_back_to(now), None, only)
    inner, parameters = question.sql({"nano": "sumIf(n_nano, kind != 'waste')"}, order="nano")
    return f"SELECT d0 AS day, nano AS cost_nano FROM ({inner}) ORDER BY day", parameters  # noqa: S608


def _budget_row(one: Budget) -> dict[str, Any]:
    return {
        **one.account._asdict(),
        "figure": one.figure,
        "limit_nano": one.limit_nano,
        "used_nano": one.used_nano,
        "left_nano": one.limit_nano - one.used_nano,
        "share": one.share,
        "ends": one.ends,
        **_forecast_row(one.forecast),
    }


def _forecast_row(one: budgets.Forecast | None) -> dict[str, Any]:
    return {
        "forecast_nano": one and one.expected_nano,
        "low_nano": one and one.low_nano,
        "high_nano": one and one.high_nano,
        "daily_nano": one and one.daily_nano,
        "basis_days": one.days if one else 0,
        "gone_at": one and one.gone_at,
    }


def _point(point: budgets.Point, limit: int | None, kind: str) -> dict[str, Any]:
    return {
        "at": point.at,
        "kind": kind,
        "used_nano": point.used_nano,
        "low_nano": point.low_nano,
        "high_nano": point.high_nano,
        "left_nano": None if limit is None else limit - point.used_nano,
    }
