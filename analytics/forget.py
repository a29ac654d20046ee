"""Forget a person: rows stay, since money and counts must stay right, and nothing in them tells whose they were.

User, tags, API key, trace and idempotency key are overwritten in every table that has them, and feedback is deleted.
What Kafka still holds must not bring them back: a rebuild forgets again, by a hash, whom the ledger has forgotten.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

from hashlib import sha256

from analytics.clickhouse import Client
from contracts.errors import InvalidRequest
from contracts.keys import check_tenant

_TABLES = ("usage", "usage_before", "usage_rebuilt")
_PERSON = "tenant = {tenant:String} AND user = {user:String}"
_NOBODY = "user = '', tags = map(), api_key_id = '', trace_id = '', idempotency_key = event_id, reason = ''"
_WAIT = "SETTINGS mutations_sync = 2"  # until it is done everywhere
_FEEDBACK = f"""
ALTER TABLE feedback DELETE
WHERE tenant = {{tenant:String}} AND idempotency_key IN (SELECT idempotency_key FROM usage WHERE {_PERSON}) {_WAIT}
"""
_HASH = "lower(hex(SHA256(concat(tenant, '\\n', user))))"
_SINCE = f"transform({_HASH}, {{persons:Array(String)}}, {{times:Array(Int64)}}, toInt64(0))"


def forget(client: Client, tenant: str, user: str) -> dict[str, int]:
    """Rows by table that no longer tell whose they are. Blocking. Raises InvalidRequest, ClickHouseError."""
    if not user:
        raise InvalidRequest("Name the user whose data is to be forgotten.", param="user")
    person = {"tenant": check_tenant(tenant), "user": user}
    client.insert("forgotten", [[_hash(tenant, user)]], column_names=["person"])
    client.command(_FEEDBACK, person)
    rows = {}
    for table in _present(client):
        found = client.query(f"SELECT count() FROM {table} WHERE {_PERSON}", parameters=person).result_rows
        client.command(f"ALTER TABLE {table} UPDATE {_NOBODY} WHERE {_PERSON} {_WAIT}", person)
        rows[table] = int(found[0][0])
    return rows


def forget_again(client: Client, table: str) -> None:
    """In a table that was made of Kafka's records anew. Blocking. Raises ClickHouseError."""
    known = client.query("SELECT person, max(forgotten_at) FROM forgotten GROUP BY person").result_rows
    if known:
        times = [round(at.timestamp() * 1000) for _, at in known]
        condition = f"user != '' AND toUnixTimestamp64Milli(event_time) <= {_SINCE}"
        asked = {"persons": [person for person, _ in known], "times": times}
        client.command(f"ALTER TABLE {table} UPDATE {_NOBODY} WHERE {condition} {_WAIT}", asked)


def _present(client: Client) -> list[str]:
    """The ledger's table, and those that a rebuild leaves."""
    exists = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name IN {names:Array(String)}"
    found = client.query(exists, parameters={"names": list(_TABLES)}).result_rows
    return sorted(name for (name,) in found)


def _hash(tenant: str, user: str) -> str:
    return sha256(f"{tenant}\n{user}".encode()).hexdigest()
