"""What the ledger is asked: cost by any of its dimensions, and one request's life. Money is integer nano-dollars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from analytics.clickhouse import Client
from analytics.questions import DIMENSIONS, TIMES, Projection, Question, utc_ms
from contracts.prices import NANO

__all__ = ["DIMENSIONS", "CostLine", "CostReport", "dollars", "request_rows", "total", "utc_ms"]

# Waste is never billed: it is counted apart. What was adjusted and credited is part of the cost, and shown beside it.
_MEASURES = {
    "requests": "sumIf(n, kind = 'usage')",
    "prompt_tokens": "sumIf(n_prompt, kind = 'usage')",
    "cached_tokens": "sumIf(n_cached, kind = 'usage')",
    "completion_tokens": "sumIf(n_completion, kind = 'usage')",
    "cost_nano": "sumIf(n_nano, kind != 'waste')",
    "waste_runs": "sumIf(n, kind = 'waste')",
    "waste_tokens": "sumIf(n_prompt + n_completion, kind = 'waste')",
    "waste_engine_us": "sumIf(n_engine_us, kind = 'waste')",
    "adjusted_nano": "sumIf(n_nano, kind = 'adjustment')",
    "credited_nano": "sumIf(n_nano, kind = 'credit')",
}

_REQUEST = """
SELECT *, queue_ms, ttft_ms, total_ms
FROM usage
WHERE idempotency_key = {key:String} AND (tenant = {tenant:String} OR {tenant:String} = '')
ORDER BY tenant, kind, event_time
"""


@dataclass(frozen=True, slots=True)
class CostLine:
    """Tokens and nano-dollars of one group; `group` has one value per dimension asked for."""

    group: tuple[str | date | datetime, ...]
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_nano: int = 0
    waste_runs: int = 0
    waste_tokens: int = 0
    waste_engine_us: int = 0
    adjusted_nano: int = 0
    credited_nano: int = 0

    def __add__(self, other: "CostLine") -> "CostLine":
        """The sum, without a group."""
        return CostLine((), *(getattr(self, name) + getattr(other, name) for name in _MEASURES))


@dataclass(frozen=True, slots=True)
class CostReport:
    """Half-open: [since, until), by when the outcome was recorded; `only` rows whose dimensions have these values.
    Raises InvalidRequest on an unknown dimension."""

    by: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    only: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._question()

    @property
    def projection(self) -> Projection | None:
        """What answers it, but for the ends of the period."""
        return self._question().projection

    def sql(self) -> tuple[str, dict[str, Any]]:
        """The statement and its parameters."""
        return self._question().sql(_MEASURES, order="cost_nano DESC")

    def lines(self, client: Client) -> list[CostLine]:
        """Blocking. By time where that was asked, then the most expensive first. Raises ClickHouseError."""
        statement, parameters = self.sql()
        width = len(self.by)
        rows = client.query(statement, parameters=parameters).result_rows
        lines = [CostLine(tuple(row[:width]), *row[width:]) for row in rows]
        times = [place for place, name in enumerate(self.by) if name in TIMES]
        return sorted(lines, key=lambda line: (*(line.group[n] for n in times), -line.cost_nano, line.group))

    def _question(self) -> Question:
        return Question(self.by, self.since, self.until, self.only)


def total(lines: Sequence[CostLine]) -> CostLine:
    return sum(lines, CostLine(()))


def request_rows(client: Client, key: str, tenant: str = "") -> list[dict[str, Any]]:
    """Blocking: the rows of a request, and of its wasted runs; of every tenant that used the key when none is named.
    Raises ClickHouseError."""
    return list(client.query(_REQUEST, parameters={"key": key, "tenant": tenant}).named_results())


def dollars(nano: int, digits: int = 9) -> str:
    """Exact with 9 digits; fewer must be enough for the number."""
    whole, rest = divmod(abs(nano), NANO)
    return f"{'-' if nano < 0 else ''}{whole}.{rest:09d}"[: len(str(whole)) + (nano < 0) + 1 + digits]
