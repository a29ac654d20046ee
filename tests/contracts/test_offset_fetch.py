"""A coordinator that is loading has not forgotten what was committed: the answer must not be taken for "nothing"."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetFetchResponse_v1, OffsetFetchResponse_v3

import contracts.kafka  # noqa: F401 - mends aiokafka

PARTITION = TopicPartition("work.small.interactive", 2)
COMMITTED = [("work.small.interactive", [(2, 308, "", 0)])]
LOADING, MOVED = 14, 16  # COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR


class Broker:
    """Gives prepared answers, one after the other."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)

    async def send(self, *_: object, **__: object) -> object:
        return self._answers.pop(0)


def coordinator(*answers: object) -> tuple[GroupCoordinator, list[str]]:
    """aiokafka's own, less its tasks and its search for the coordinating broker."""
    found: Any = GroupCoordinator.__new__(GroupCoordinator)
    lost: list[str] = []

    async def known() -> None:
        pass

    found.group_id, found.coordinator_id, found._retry_backoff_ms = "group", 1, 1
    found._client, found.ensure_coordinator_known = Broker(*answers), known
    found.coordinator_dead = lambda: lost.append("dead")
    return found, lost


@pytest.mark.parametrize(("code", "searches_anew"), [(LOADING, []), (MOVED, ["dead"])])
async def test_a_group_level_error_is_asked_again(code: int, searches_anew: list[str]) -> None:
    group, lost = coordinator(OffsetFetchResponse_v3(0, [], code), OffsetFetchResponse_v3(0, COMMITTED, 0))
    offsets = await group.fetch_committed_offsets([PARTITION])
    assert {tp: meta.offset for tp, meta in offsets.items()} == {PARTITION: 308}
    assert lost == searches_anew


@pytest.mark.parametrize("answer", [OffsetFetchResponse_v3(0, COMMITTED, 0), OffsetFetchResponse_v1(COMMITTED)])
async def test_a_good_answer_is_taken_in_every_version(answer: object) -> None:
    group, lost = coordinator(answer)
    offsets = await group.fetch_committed_offsets([PARTITION])
    assert (offsets[PARTITION].offset, lost) == (308, [])


async def test_a_group_that_never_committed_is_still_told_so() -> None:
    group, _ = coordinator(OffsetFetchResponse_v3(0, [("work.small.interactive", [(2, -1, "", 0)])], 0))
    assert await group.fetch_committed_offsets([PARTITION]) == {}
