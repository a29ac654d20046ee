"""Flow: its times and errors are the ledger's of the last minute, whether Kafka answers or not."""

import time

from analytics.intake import take_in
from analytics.ledger import Ledger
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.usage import UsageEvent
from tests.support.demo_dashboard import OPERATOR, serving_demo, signed_in
from tests.support.usage import as_records, as_values, as_waste, make_events

ENDS = {
    Outcome.SUCCEEDED: 40,
    Outcome.FAILED: 3,
    Outcome.TIMED_OUT: 2,
    Outcome.EXPIRED: 1,
    Outcome.REJECTED: 4,
    Outcome.CANCELLED: 1,
}
AHEAD_MS = 600_000  # however long the test takes, its rows are of the last minute


def events() -> list[UsageEvent]:
    """Each step took as long as in every other: see tests/support/usage.py."""
    now = int(time.time() * 1000)
    ran = [event for event in make_events(300, start=now + AHEAD_MS, step_ms=1) if event.model == "small"]
    outcomes = [outcome for outcome, count in ENDS.items() for _ in range(count)]
    ended = [
        event.model_copy(update={"outcome": outcome, "lane": "interactive"})
        for event, outcome in zip(ran, outcomes, strict=False)
    ]
    assert len(ended) == len(outcomes)
    old = make_events(50, seed=1, start=now - 600_000, step_ms=1)
    return [*ended, *[as_waste(event) for event in ended[:5]], *old]


async def test_times_and_errors_are_the_ledgers(embedded: Settings, ledger: Ledger) -> None:
    take_in(ledger, as_records(as_values(events())))
    async with serving_demo(embedded) as url, signed_in(url, OPERATOR) as client:
        told = (await client.get("/api/flow/now")).json()
    nodes = {row["id"]: row for row in told["rows"]}
    p99 = {name: nodes[name]["p99_ms"] for name in ("dedupe", "meter", "workers", "settle")}
    assert p99 == {"dedupe": 4, "meter": 4, "workers": 869, "settle": 20}
    lane = nodes["work:small:interactive"]
    assert (lane["p99_ms"], lane["run_p99_ms"], lane["ttft_p99_ms"]) == (3, 869, 53)
    assert (told["ttft_p99_ms"], told["total_p99_ms"]) == (53, 880)
    failed = ENDS[Outcome.FAILED] + ENDS[Outcome.TIMED_OUT] + ENDS[Outcome.EXPIRED]
    assert (nodes["workers"]["errors"], lane["errors"], nodes["meter"]["errors"]) == (failed, failed, 4)
    assert told["ended"] == {
        "ended": 51,
        "succeeded": 40,
        "rejected": 4,
        "expired": 1,
        "failed": 5,
        "cancelled": 1,
    }
    assert nodes["workers"]["tone"] == nodes["meter"]["tone"] == "bad"
    assert "Kafka doesn't answer" in told["problem"]
    assert {(row["rate"], row["lag"]) for row in told["rows"]} == {(None, None)}
