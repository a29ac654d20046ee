"""Requests: found by what is known of them, and one request's whole life. Prompts and answers are not in the ledger."""

from typing import Any

from analytics.dashboard.request_life import life
from analytics.dashboard.view import Answer, Asked, View
from contracts.errors import UnknownRequest
from contracts.keys import RequestKey, check_idempotency_key, check_tenant
from contracts.outcomes import Outcome

view = View("requests", "Requests")

_PERIOD = (
    "event_time >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') "
    "AND event_time < fromUnixTimestamp64Milli({until:Int64}, 'UTC')"
)
_FILTERS = ("user", "feature", "model", "lane", "outcome")
_OUTCOMES = ("", *(outcome.value for outcome in Outcome))
_LANES = ("", "interactive", "batch")
_COLUMNS = (
    "event_time, tenant, idempotency_key, user, feature, model, requested_model, route, lane, outcome, status, "
    "streamed, prompt_tokens, completion_tokens, cost_nano, queue_ms, ttft_ms, total_ms"
)


@view.get("list")
async def list_(asked: Asked) -> Answer:
    """The newest first. A key is looked for in all times, else its beginning in the period."""
    filters, parameters = _filters(asked)
    limit = asked.number("limit", 50, 1, 1000)
    key = asked.text("key")
    if key:
        parameters["key"] = key
        found = await _page(asked, ["idempotency_key = {key:String}", *filters], parameters, limit)
        if found.rows:
            return found
        filters.append("startsWith(idempotency_key, {key:String})")
    return await _page(asked, [_PERIOD, *filters], parameters, limit)


@view.get("one")
async def one(asked: Asked) -> Answer:
    """Its rows and its life; of one that isn't in the ledger yet, what the streams know."""
    key = check_idempotency_key(asked.text("key"))
    statement = (
        "SELECT *, queue_ms, ttft_ms, total_ms\nFROM usage\n"
        f"WHERE idempotency_key = {{key:String}} AND {asked.scope}\nORDER BY tenant, kind, event_time"
    )
    parameters = asked.parameters | {"key": key}
    rows = await asked.rows(statement, parameters)
    sql = asked.sql(statement, parameters)
    if rows:
        return Answer(rows, sql, life=life(rows), state=None)
    return Answer([], sql, life=None, state=await _state(asked, key))


@view.get("tenants")
async def tenants(asked: Asked) -> Answer:
    statement = (
        f"SELECT tenant, count() AS events\nFROM usage\nWHERE {asked.scope}\nGROUP BY tenant\nORDER BY tenant\n"
        "LIMIT 2000"
    )
    return Answer(await asked.rows(statement), asked.sql(statement))


def _filters(asked: Asked) -> tuple[list[str], dict[str, Any]]:
    parameters = asked.parameters
    asked.choice("outcome", _OUTCOMES, "")
    asked.choice("lane", _LANES, "")
    conditions = ["kind = 'usage'", asked.scope]
    for name in _FILTERS:
        if value := asked.text(name):
            conditions.append(f"{name} = {{{name}:String}}")
            parameters[name] = value
    return conditions, parameters


async def _page(asked: Asked, conditions: list[str], parameters: dict[str, Any], limit: int) -> Answer:
    """One row more is read than shown, to know whether there are others."""
    where = "\n    AND ".join(conditions)
    statement = f"SELECT {_COLUMNS}\nFROM usage\nWHERE {where}\nORDER BY event_time DESC, event_id\nLIMIT {limit + 1}"
    rows = await asked.rows(statement, parameters)
    return Answer(rows[:limit], asked.sql(statement, parameters), more=len(rows) > limit)


async def _state(asked: Asked, key: str) -> dict[str, Any]:
    """Raises UnknownRequest, StackError."""
    nobody = UnknownRequest("The ledger has no such request. It gets a request's row within two seconds of its end.")
    if not asked.tenant:
        raise nobody
    state = await asked.desk.request_state(RequestKey(check_tenant(asked.tenant), key))
    if state is None:
        raise nobody
    return state.model_dump(include={"id", "status", "model", "created_at", "finished_at"})
