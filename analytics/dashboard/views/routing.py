"""Routing: where the router sent requests, what that cost and how good it was, beside always-large."""

from analytics.dashboard.exact import answer
from analytics.dashboard.policies import catalogue_of
from analytics.dashboard.view import Answer, Asked, View
from analytics.routing_report import BINS, RoutingReport, largest, references, thresholds
from analytics.spending import begins, resolution_of
from contracts.catalogue import Catalogue
from contracts.prices import load_prices

view = View("routing", "Routing")


@view.get("shares")
async def shares(asked: Asked) -> Answer:
    report = _report(asked, await catalogue_of(asked))
    return await answer(asked, await asked.read(report.shares), large=report.large)


@view.get("over-time")
async def over_time(asked: Asked) -> Answer:
    report = _report(asked, await catalogue_of(asked))
    resolution = resolution_of(asked.since, asked.until)
    statement = await asked.read(lambda client: report.over_time(client, resolution))
    return await answer(asked, statement, large=report.large, resolution=resolution, since=report.since)


@view.get("scores")
async def scores(asked: Asked) -> Answer:
    catalogue = await catalogue_of(asked)
    statement = _report(asked, catalogue).scores()
    rules = {"thresholds": thresholds(catalogue), "references": references(catalogue)}
    return await answer(asked, statement, bins=BINS, **rules, policy=catalogue.version)


@view.get("escalations")
async def escalations(asked: Asked) -> Answer:
    return await answer(asked, _report(asked, await catalogue_of(asked)).escalations())


@view.get("shadows")
async def shadows(asked: Asked) -> Answer:
    return await answer(asked, _report(asked, await catalogue_of(asked)).shadows())


def _report(asked: Asked, catalogue: Catalogue) -> RoutingReport:
    large = asked.text("large") or largest(catalogue)
    since = begins(asked.since, resolution_of(asked.since, asked.until))
    return RoutingReport(asked.tenant, since, asked.until, large, load_prices(asked.settings.prices_file))
