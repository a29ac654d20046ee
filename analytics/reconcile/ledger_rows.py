"""The ledger's side of reconcile: its rows by their place in Kafka, their sums, and those that are too many.

All of it reads; the statements run on the query port and on a server alike.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

from collections.abc import Iterator, Mapping, Sequence
from hashlib import md5
from typing import Any, NamedTuple

from analytics.clickhouse import Client
from analytics.reconcile.report import Sums

_ROWS_AT_ONCE = 1_000_000  # offsets in one question: about 16 MB of answer
_IDS_AT_ONCE = 5_000
_MOST_NAMED = 10_000
_HOUR_MS = 3_600_000

# What a row says, in one number: the identity, and everything that a bill is made of.
_SAYS = (
    "event_id",
    "kind",
    "tenant",
    "idempotency_key",
    "claim",
    "outcome",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "cost_nano",
)
DIGEST = f"halfMD5(concat_ws('\\n', {', '.join(f'toString({name})' for name in _SAYS)}))"
FORGOTTEN = 0  # instead of a digest: the person whose row it was is forgotten, and it can't be compared
_PLACE = """
topic = {topic:String} AND partition = {partition:UInt16} AND offset >= {first:UInt64} AND offset < {end:UInt64}
"""
_ROWS = f"SELECT offset, if(idempotency_key = event_id, {FORGOTTEN}, {DIGEST}) FROM usage WHERE {_PLACE}"
_SUMS = f"""
SELECT
    tenant, count(), countIf(kind = 'waste'),
    sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(cost_nano)
FROM usage WHERE {_PLACE} GROUP BY tenant
"""
_SINCE, _UNTIL = (f"fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')" for name in ("since", "until"))
_BETWEEN = f"event_time BETWEEN {_SINCE} AND {_UNTIL}"
_KNOWN = f"""
SELECT event_id, any({DIGEST}) FROM usage
WHERE event_id IN ({{ids:Array(String)}}) AND {_BETWEEN}
GROUP BY event_id
"""
_PLACES = "arraySort(groupArray(concat(topic, ' ', toString(partition), '.', toString(offset))))"
_DOUBLED = f"""
SELECT {_PLACES}, any(tenant), any(idempotency_key), any(event_id)
FROM usage WHERE {_BETWEEN}
GROUP BY event_id HAVING count() > 1
ORDER BY event_id LIMIT {_MOST_NAMED}
"""
_END = "transform(partition, {partitions:Array(UInt16)}, {ends:Array(UInt64)}, toUInt64(0))"
_STRAYS = f"""
SELECT topic, partition, offset, tenant, idempotency_key
FROM usage WHERE {_BETWEEN} AND (topic != {{topic:String}} OR offset >= {_END})
LIMIT {_MOST_NAMED}
"""
_ASKED = "SELECT DISTINCT tenant, idempotency_key FROM usage WHERE idempotency_key IN ({keys:Array(String)})"


class Place(NamedTuple):
    topic: str
    partition: int
    offset: int
    tenant: str
    key: str

    def __str__(self) -> str:
        return f"{self.topic} {self.partition}.{self.offset}"


class Doubled(NamedTuple):
    """An event that has several rows, at these places in Kafka."""

    places: list[str]
    tenant: str
    key: str
    event_id: str


def digest_of(event: Mapping[str, Any]) -> int:
    """As the ledger makes it of the row. 64 bits of MD5: against mistakes, not against forgers; never 0."""
    said = "\n".join([str(event.get(name, _DEFAULTS.get(name))) for name in _SAYS])
    return int.from_bytes(md5(said.encode(), usedforsecurity=False).digest()[:8], "big") or 1


_DEFAULTS = {"kind": "usage", "prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "cost_nano": 0}


class LedgerRows:
    """Blocking. `topic` is `usage` by its full name. Raises ClickHouseError."""

    def __init__(self, client: Client, topic: str) -> None:
        self._client = client
        self._topic = topic

    def rows(self, partition: int, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(offset, digest, or FORGOTTEN), in no order."""
        for start in range(first, end, _ROWS_AT_ONCE):
            place = self._place(partition, start, min(end, start + _ROWS_AT_ONCE))
            columns = self._client.query(_ROWS, parameters=place).result_columns
            yield from zip(*columns, strict=True) if columns else ()

    def sums(self, partition: int, first: int, end: int) -> dict[str, Sums]:
        """By tenant."""
        found = self._client.query(_SUMS, parameters=self._place(partition, first, end)).result_rows
        return {row[0]: Sums(*row[1:]) for row in found}

    def known(self, ids: Sequence[str], since: int, until: int) -> dict[str, int]:
        """Digests by event id of those that have a row, wherever it came from. Times in UTC ms: of the events."""
        found: dict[str, int] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = {"ids": list(ids[start : start + _IDS_AT_ONCE]), "since": since, "until": until}
            found |= {row[0]: row[1] for row in self._client.query(_KNOWN, parameters=some).result_rows}
        return found

    def doubled(self, since: int, until: int) -> list[Doubled]:
        """Events with several rows. An hour at a time: an event has the same time wherever it is stored."""
        found: list[Doubled] = []
        for start in range(since, until + 1, _HOUR_MS):
            hour = {"since": start, "until": min(until, start + _HOUR_MS - 1)}
            found += [Doubled(*row) for row in self._client.query(_DOUBLED, parameters=hour).result_rows]
        return found

    def strays(self, since: int, until: int, ends: Mapping[int, int]) -> list[Place]:
        """Rows of another topic, or beyond these ends of the partitions."""
        asked = {"since": since, "until": until, "topic": self._topic}
        asked |= {"partitions": list(ends), "ends": list(ends.values())}
        return [Place(*row) for row in self._client.query(_STRAYS, parameters=asked).result_rows]

    def billed(self, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of these (tenant, key) that the ledger knows."""
        names = sorted({key for _, key in keys})
        found: set[tuple[str, str]] = set()
        for start in range(0, len(names), _IDS_AT_ONCE):
            some = {"keys": names[start : start + _IDS_AT_ONCE]}
            found |= {(row[0], row[1]) for row in self._client.query(_ASKED, parameters=some).result_rows}
        return found & set(keys)

    def _place(self, partition: int, first: int, end: int) -> dict[str, Any]:
        return {"topic": self._topic, "partition": partition, "first": first, "end": end}
