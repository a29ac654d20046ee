"""Limits and routing policy in force, as the desk knows them; without one, what the settings' files say."""

from collections.abc import Mapping

from analytics.dashboard.view import Asked
from contracts.catalogue import Catalogue, load_catalogue
from contracts.limits import Limit, Selector


async def limits_of(asked: Asked) -> Mapping[Selector, Limit]:
    """None are set where there is nobody to ask. Raises StackError."""
    return await asked.house.desk.limits() if asked.house.desk else {}


async def catalogue_of(asked: Asked) -> Catalogue:
    """With the thresholds that were calibrated. Raises StackError, ConfigError."""
    if asked.house.desk:
        return await asked.house.desk.catalogue()
    return load_catalogue(asked.settings.routes_file)
