"""A desk of a system with limits in use, one running request, and dead letters that can be redriven."""

# ruff: noqa: ARG002 - a protocol's arguments

from collections.abc import Sequence
from dataclasses import replace

from analytics.dashboard.desk import LetterLine, Redriven
from contracts.frames import RequestState
from contracts.keys import RequestKey
from contracts.limit_usage import AccountUsage, MeasureUsage
from tests.support.demo_dashboard import DemoDesk

RUNNING = RequestKey("acme", "still-running")
USAGE = [
    AccountUsage(
        tenant="globex",
        measures={
            "dollars_per_day": MeasureUsage(used=2_310_000_000, limit=2_500_000_000, reset_ms=49_000_000),
            "tokens_per_minute": MeasureUsage(used=120_400, limit=2_000_000, reset_ms=3_600),
        },
    ),
    AccountUsage(
        tenant="acme",
        user="ann",
        measures={"tokens_per_day": MeasureUsage(used=200_000, limit=200_000, reset_ms=49_000_000)},
    ),
    AccountUsage(
        tenant="acme",
        measures={
            "dollars_per_month": MeasureUsage(used=21_734_000_000, limit=40_000_000_000, reset_ms=640_000_000),
            "concurrent_requests": MeasureUsage(used=9, limit=64),
            "requests_per_minute": MeasureUsage(used=4),
        },
    ),
]


def letter(offset: int, reason: str, **other: object) -> LetterLine:
    line = LetterLine(
        id=f"0.{offset}",
        at=1_795_420_000_000 + offset * 60_000,
        stage="dedupe",
        reason=reason,
        tenant="acme",
        key=f"acme:order-{offset}",
        topic="requests",
        partition=offset % 8,
        offset=1000 + offset,
        attempts=1,
        outcome="",
        bytes=312,
        handled="",
        handled_at=None,
        headers={"tenant": "acme", "user": "ann", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71-01"},
    )
    return replace(line, **other)  # type: ignore[arg-type] # fields of a letter


class BusyDesk(DemoDesk):
    """Keeps what was asked of it."""

    def __init__(self) -> None:
        self.redriven: list[str] = []
        self.dropped: list[str] = []
        self.open = [
            letter(1, "The body is not valid JSON: unexpected character: line 1 column 2 (char 1)."),
            letter(2, "It killed its worker three times.", stage="worker", attempts=3, outcome="failed"),
            letter(3, "The record key must be tenant:idempotency_key.", tenant="", key="no-colon"),
        ]

    async def limit_usage(self, tenant: str) -> tuple[list[AccountUsage], bool]:
        return [account for account in USAGE if tenant in ("", account.tenant)], True

    async def request_state(self, key: RequestKey) -> RequestState | None:
        if key != RUNNING:
            return None
        return RequestState(
            id=key.idempotency_key, status="in_progress", created_at=1_795_420_000_000, response={"secret": "answer"}
        )

    async def letters(self, *, since: int, tenant: str, handled: bool) -> list[LetterLine]:
        return [one for one in self.open if tenant in ("", one.tenant) and (handled or not one.handled)]

    async def redrive(self, ids: Sequence[str]) -> Redriven:
        self.redriven += ids
        self._handle(ids, "redriven")
        return Redriven(len(ids), {})

    async def drop(self, ids: Sequence[str]) -> int:
        self.dropped += ids
        self._handle(ids, "dropped")
        return len(ids)

    def _handle(self, ids: Sequence[str], how: str) -> None:
        self.open = [replace(one, handled=how, handled_at=one.at) if one.id in ids else one for one in self.open]
