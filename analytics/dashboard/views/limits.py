"""Limits: how much of each is used, as the meters say it now."""

from typing import Any

from analytics.dashboard.view import Answer, Asked, View
from contracts.limit_usage import AccountUsage

view = View("limits", "Limits")


@view.get("usage")
async def usage(asked: Asked) -> Answer:
    """A row for each measure that is limited or used, of each account; the nearest to a limit first."""
    accounts, complete = await asked.desk.limit_usage(asked.tenant)
    rows = [row for account in accounts for row in _rows(account)]
    return Answer(rows, complete=complete)


def _rows(account: AccountUsage) -> list[dict[str, Any]]:
    whose = {
        "tenant": account.tenant,
        "user": account.user,
        "feature": account.feature,
        "api_key": account.api_key,
    }
    return [
        whose
        | {
            "measure": name,
            "used": measure.used,
            "limit": measure.limit,
            "share": round(measure.share, 4) if measure.limit is not None else None,
            "reset_ms": measure.reset_ms,
        }
        for name, measure in account.measures.items()
        if measure.limit is not None or measure.used
    ]
