"""The kill matrix in short, and what makes a seed repeatable."""

from itertools import islice
from pathlib import Path

import pytest

from millrace.kafka_runtime import KafkaRuntime
from tests.chaos.campaign import run
from tests.chaos.faults import FAULTS
from tests.chaos.report import holds, render, rows
from tests.chaos.schedule import rounds

SHORT = ["kill-streams", "kill-worker", "kill-ingress", "freeze-worker", "blackout", "clock-worker", "forget-ledger"]


def test_a_seed_replays_its_order_of_faults() -> None:
    first, again, other = (list(islice(rounds(seed, list(FAULTS)), 40)) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert {faults[0] for faults in first if len(faults) == 1} == set(FAULTS)
    assert any(len(faults) > 1 for faults in first)


@pytest.mark.stack
async def test_the_promise_holds_while_everything_is_killed(tmp_path: Path, kafka_runtime: KafkaRuntime) -> None:
    said: list[str] = []
    outcome = await run(tmp_path, seed=25, names=SHORT, seconds=40, per_second=4, say=said.append)
    assert holds(outcome), "\n".join([*said, *map(str, outcome.findings), *map(str, outcome.stale)])
    assert sum(len(one.keys) for one in outcome.rounds) > 50
    calls, deleted = outcome.evidence.told, {deletion.status for deletion in outcome.evidence.deletions}
    assert any(told.cuts for told in calls), "streams were gone on with"
    assert any(told.left for told in calls), "clients hung up"
    assert any(told.refused for told in calls), "a limit turned somebody away"
    assert 200 in deleted, "something was cancelled"
    assert rows(outcome)[-1][0] == "all"
    assert render(outcome)
