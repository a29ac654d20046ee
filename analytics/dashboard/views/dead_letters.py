"""Dead letters: what waits for a decision, why, and the decision. Bodies are never shown."""

from dataclasses import asdict

from analytics.dashboard.view import Answer, Asked, View
from analytics.questions import utc_ms
from contracts.errors import InvalidRequest

view = View("dead-letters", "Dead letters", operators_only=True)
_MOST = 1000  # at once


@view.get("list")
async def list_(asked: Asked) -> Answer:
    """The newest first; `handled=yes` has also those that something was done about."""
    handled = asked.choice("handled", ("no", "yes"), "no") == "yes"
    letters = await asked.desk.letters(since=utc_ms(asked.since), tenant=asked.tenant, handled=handled)
    return Answer([asdict(letter) for letter in reversed(letters)])


@view.post("redrive")
async def redrive(asked: Asked) -> Answer:
    done = await asked.desk.redrive(_ids(asked))
    return Answer([{"id": id_, "why": why} for id_, why in done.stay.items()], redriven=done.count)


@view.post("drop")
async def drop(asked: Asked) -> Answer:
    return Answer([], dropped=await asked.desk.drop(_ids(asked)))


def _ids(asked: Asked) -> list[str]:
    """Raises InvalidRequest."""
    ids = asked.body.get("ids")
    if not isinstance(ids, list) or not 0 < len(ids) <= _MOST or not all(isinstance(id_, str) for id_ in ids):
        raise InvalidRequest(f"ids is a list of 1 to {_MOST} letters' ids.", param="ids")
    return ids
