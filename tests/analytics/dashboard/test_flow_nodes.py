"""The picture's figures: rates and lags from offsets, and the tone where it hurts."""

from typing import Any

import pytest

from analytics.dashboard.flow_nodes import Figures, nodes
from analytics.dashboard.kafka_offsets import Moment, rates
from analytics.dashboard.worker_lines import worker_lines
from contracts.topics import LANES, Topics
from contracts.workers import Beat, ModelLoad, Outcomes

TOPICS = Topics("p-")
ENDED = {"ended": 100, "succeeded": 100, "rejected": 0, "expired": 0, "failed": 0, "cancelled": 0}


def moment(at: float, written: int, read: int) -> Moment:
    """Everything written and read at one pace."""
    app = TOPICS.streams_app
    places = [
        (app, TOPICS.requests),
        (app, TOPICS.admitted),
        (app, TOPICS.completions),
        (TOPICS.sink_group, TOPICS.usage),
    ]
    places += [(TOPICS.worker_group("small"), TOPICS.work("small", lane)) for lane in LANES]
    topics = {topic for _, topic in places} | {TOPICS.dead_letters}
    return Moment(
        at,
        {topic: 0 if topic == TOPICS.dead_letters else written for topic in topics},
        dict.fromkeys(places, read),
        dict.fromkeys(places, written - read),
    )


def shown(moments: list[Moment], whole: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    figures = Figures(whole or ENDED, {})
    return {node["id"]: node for node in nodes(TOPICS, ["small"], moments, figures)}


def test_rates_and_lags_are_the_logs() -> None:
    found = shown([moment(100, 1000, 990), moment(102, 1020, 1016)])
    assert list(found) == [
        "ingress",
        "dedupe",
        "meter",
        "work:small:interactive",
        "work:small:batch",
        "workers",
        "settle",
        "sink",
        "dead-letters",
    ]
    assert found["ingress"]["rate"] == 10
    assert (found["dedupe"]["rate"], found["dedupe"]["lag"]) == (13, 4)
    assert found["workers"]["lag"] == 8
    assert {node["tone"] for node in found.values()} == {""}


@pytest.mark.parametrize(
    ("written", "read", "tone"),
    [(1040, 1020, ""), (1100, 1020, "warn"), (1400, 1020, "bad")],  # at ten a second: 2 s, 8 s and 38 s of work
)
def test_waiting_work_hurts_by_the_time_it_takes(written: int, read: int, tone: str) -> None:
    found = shown([moment(100, 1000, 1000), moment(102, written, read)])
    assert found["dedupe"]["tone"] == found["sink"]["tone"] == tone
    assert found["workers"]["tone"] == ""  # its lag is mostly what runs


def test_a_stage_that_stands_still_hurts() -> None:
    found = shown([moment(100 + n, 1000 + 20 * n, 1000) for n in range(12)])
    assert (found["settle"]["tone"], found["settle"]["why"]) == ("bad", "work waits and nothing moves")
    assert found["work:small:interactive"]["tone"] == ""  # a long answer may take that long


@pytest.mark.parametrize(("failed", "tone"), [(0, ""), (2, "warn"), (5, "bad")])
def test_errors_hurt_by_their_share(failed: int, tone: str) -> None:
    found = shown([moment(100, 1000, 1000)], ENDED | {"failed": failed})
    assert (found["workers"]["tone"], found["workers"]["errors"]) == (tone, failed)
    refused = shown([moment(100, 1000, 1000)], ENDED | {"rejected": failed})
    assert refused["meter"]["tone"] == tone


def test_without_kafka_and_ledger_nothing_is_made_up() -> None:
    found = {node["id"]: node for node in nodes(TOPICS, ["small"], [], Figures({}, {}))}
    assert {(node["rate"], node["lag"], node["errors"], node["tone"]) for node in found.values()} == {
        (None, None, None, "")
    }


def test_history_is_records_a_second() -> None:
    assert rates([(0.0, {"a": 0}), (10.0, {"a": 50}), (12.0, {"a": 50, "b": 4})]) == [
        (10.0, {"a": 5.0}),
        (12.0, {"a": 0.0, "b": 2.0}),
    ]


def test_a_silent_worker_hurts_until_it_is_forgotten() -> None:
    load = ModelLoad(
        model="small", engine="synthetic", room=8, running=3, kv_used=0.5, outcomes=Outcomes(ended=4, failed=1)
    )
    beat = Beat(worker="w", at=1_000_000, started_at=0, version="1", models=(load,))
    [line] = worker_lines([beat], 1_001_000)
    assert (line["running"], line["room"], line["kv_used"], line["failed"], line["tone"]) == (3, 8, 0.5, 1, "")
    assert worker_lines([beat], 1_030_000)[0]["tone"] == "bad"
    assert worker_lines([beat], 2_000_000) == []
    full = beat.model_copy(update={"models": (load.model_copy(update={"kv_used": 0.97}),)})
    assert worker_lines([full], 1_001_000)[0]["tone"] == "warn"
