"""Two tenants that may not use much: budgets for each user of one, and few requests at once of the other."""

import time

from contracts.limits import Selector, dollars
from contracts.prices import load_prices
from contracts.settings import Settings
from millrace.limits import ask_usage, set_figures
from millrace.polling import until

FRUGAL, NARROW = "frugal", "narrow"
MODEL = "small"  # of the frugal ones, so that one knows what their requests cost
AT_ONCE = 2
_ROOM = 3  # requests in a user's budget
_PROMPT_TOKENS, MOST_TOKENS = 45, 60  # of one of them, at the most


def budget_nano() -> int:
    """Of each user, nano-dollars a month."""
    price = load_prices().find(MODEL, "", time.time_ns() // 1_000_000)
    assert price is not None, "the shipped models have prices"
    return price.cost(_PROMPT_TOKENS, 0, MOST_TOKENS) * _ROOM


async def set_limits(settings: Settings) -> None:
    """Returns when they are in force."""
    figures = {"dollars_per_month": dollars(budget_nano())}
    await set_figures(settings, Selector(FRUGAL, user="*"), figures)
    await set_figures(settings, Selector(NARROW), {"concurrent_requests": AT_ONCE})
    await until(lambda: _is_known(settings, Selector(FRUGAL, user="anybody"), "dollars_per_month"))


async def _is_known(settings: Settings, selector: Selector, figure: str) -> bool:
    [account], _ = await ask_usage(settings, selector)
    return account.measures[figure].limit is not None if figure in account.measures else False


class Meters(dict[tuple[str, str], int]):
    """What the meters say is used: nano-dollars of the month by (FRUGAL, user); requests at once by (NARROW, "")."""

    @classmethod
    async def ask(cls, settings: Settings) -> "Meters":
        """Raises StackError when they don't answer."""
        used = cls()
        for tenant, figure in ((FRUGAL, "dollars_per_month"), (NARROW, "concurrent_requests")):
            accounts, _ = await ask_usage(settings, Selector(tenant))
            for account in accounts:
                if (account.user is None) == (tenant == NARROW):
                    used[tenant, account.user or ""] = account.measures[figure].used
        return used
