"""A limit that is set holds within a second at every meter, without a restart, and a restart keeps it."""

import asyncio
from itertools import count
from pathlib import Path

import pytest

from contracts.limit_usage import UsageAnswer, UsageQuestion
from contracts.limits import Selector
from contracts.settings import Settings
from millrace.limits import set_figures
from streams.partition import partition_of
from tests.streams.actors import body
from tests.streams.live import DEADLINE_SECONDS, Live, head, live, running, streams_process

pytestmark = pytest.mark.broker
EACH_USER = Selector("*", user="*")
CHANGES = 10
_questions = count(1)


async def limits(around: Live) -> set[int | None]:
    """By which the meters go: one tenant of each partition is asked for."""
    partitions = around.settings.tenant_partitions
    tenants = {partition_of(name.encode(), partitions): name for name in (f"t{number}" for number in range(99))}
    asked = set()
    for partition, tenant in tenants.items():
        ce_id = f"question-{next(_questions)}"
        question = UsageQuestion(ce_id=ce_id, reply_to=f"{around.topics.responses}/0", tenant=tenant, user="ann")
        await around.producer.send_and_wait(
            around.topics.admitted, b"", headers=question.to_headers(), partition=partition
        )
        asked.add(ce_id)
    answers = around.readers[around.topics.responses]
    frames = await answers.arrived(lambda frame: head(frame, "in-reply-to") in asked, partitions)
    told = [UsageAnswer.model_validate_json(frame.value).accounts[0].measures for frame in frames]
    return {measures["tokens_per_day"].limit if "tokens_per_day" in measures else None for measures in told}


async def seen_after(around: Live, figure: int) -> float:
    """Seconds from when Kafka has it."""
    await set_figures(around.settings, EACH_USER, {"tokens_per_day": figure})
    clock = asyncio.get_running_loop().time
    since = clock()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await limits(around) != {figure}:
            pass
    return clock() - since


async def test_a_change_is_seen_within_a_second_and_outlives_a_restart(settings: Settings, tmp_path: Path) -> None:
    """The quickest of several counts: whatever holds up a single one here, nothing waits for a second to pass."""
    meters = [streams_process(settings, tmp_path, f"streams-{number}") for number in range(2)]
    async with live(settings) as around:
        async with running(*meters):
            assert await limits(around) == {None}
            assert min([await seen_after(around, figure) for figure in range(1, CHANGES + 1)]) < 1
        async with running(*meters):
            assert await limits(around) == {CHANGES}
            await around.ask("acme:k1", body(max_tokens=CHANGES), headers=[("user", b"ann")])
            assert head(await around.told("acme:k1", kind="error"), "status") == "400"
