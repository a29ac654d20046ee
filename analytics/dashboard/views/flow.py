"""Flow: the pipeline as a picture, with the figures of each place. Live by the event `flow`; this is the same, once."""

from analytics.dashboard.flow_sql import BY_LANE, WHOLE
from analytics.dashboard.view import Answer, Asked, View

view = View("flow", "Flow", operators_only=True)


@view.get("now")
async def now(asked: Asked) -> Answer:
    seen = dict(await asked.house.flow.last())
    return Answer(seen.pop("nodes"), f"{WHOLE.strip()};\n\n{BY_LANE.strip()}", **seen)
