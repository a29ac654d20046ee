"""A storm of records that can't be understood stops streams loudly, and each start gets further."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from contracts.errors import StackError
from contracts.settings import Settings
from streams.partition import partition_of
from tests.streams.actors import body
from tests.streams.live import head, live, streams_process

pytestmark = pytest.mark.broker
STORM = 70
GOOD = "acme:good"


async def test_a_storm_of_poison_stops_the_stage_and_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"poison_window": 40, "streams_batch_size": 10})
    streams = streams_process(settings, tmp_path)
    home = partition_of(GOOD.encode(), settings.request_partitions)
    async with live(settings) as around:
        for number in range(STORM):
            await around.ask(f"nobody-{number}", b"{", partition=home)
        await around.ask(GOOD, body())
        answer = asyncio.create_task(around.told(GOOD, kind="final"))
        starts = 0
        while not answer.done() and starts < 10:
            starts += 1
            with suppress(StackError):  # it may stop before it is ready
                await streams.start()
                ended = asyncio.create_task(streams.wait())
                await asyncio.wait({answer, ended}, return_when=asyncio.FIRST_COMPLETED)
        await streams.stop()
        letters = around.readers[around.topics.dead_letters].records
    assert starts == 2
    assert head(await answer, "status") == "200"
    assert {letter.key for letter in letters} == {f"nobody-{number}".encode() for number in range(STORM)}
    assert len(letters) == STORM
    assert "couldn't be understood" in (tmp_path / "streams.log").read_text()
