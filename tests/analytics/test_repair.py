"""`millrace reconcile --repair` and `millrace rebuild` on a ledger that another process holds: analytics does it."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.errors import StackError
from contracts.settings import Settings
from contracts.usage import UsageEvent
from millrace.ports import free_port
from millrace.rebuild_run import check_quiet
from millrace.service_process import ServiceProcess
from millrace.stack_file import StackFile, own_start_time
from tests.support.analytics import committed_lag, process_of
from tests.support.commands import Command, Ended
from tests.support.history import History, Story, history, stories
from tests.support.until import until

pytestmark = pytest.mark.broker

RUN_SQL = """
import sys
from analytics.clickhouse import connect
from contracts.settings import Settings
client = connect(Settings())
client.database = "millrace"
for statement in sys.argv[1:]:
    client.command(statement)
client.close()
"""


@dataclass
class Site:
    """Analytics, its ledger, and commands that find it as they find a stack."""

    settings: Settings
    folder: Path
    past: History
    analytics: ServiceProcess

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.analytics_port}"

    @property
    def environment(self) -> dict[str, str]:
        given = {"kafka_bootstrap_servers", "topic_prefix"}
        told = {f"MILLRACE_{name.upper()}": str(getattr(self.settings, name)) for name in given}
        return told | {"MILLRACE_DATA_DIR": str(self.folder), "NO_COLOR": "1"}

    async def caught_up(self) -> None:
        async def done() -> bool:
            return await committed_lag(self.settings) == 0

        await until(done)

    async def tamper(self, *statements: str) -> None:
        """While analytics is down, as only somebody with the folder can."""
        assert await self.analytics.stop()
        environment = os.environ | {"MILLRACE_CLICKHOUSE_PATH": str(self.settings.clickhouse_path)}
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", RUN_SQL, *statements, env=environment)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        await self.analytics.start()

    async def run(self, *arguments: str, **environment: str) -> Ended:
        command = await Command.start("millrace", *arguments, environment=self.environment | environment)
        return await command.ended()

    async def reconcile(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        ended = await self.run("reconcile", "--until", "0s", "--format", "json", *arguments)
        assert ended.err == ""
        return ended.status, json.loads(ended.out)


@pytest.fixture
async def site(settings: Settings, tmp_path: Path) -> AsyncIterator[Site]:
    mine = settings.model_copy(update={"analytics_port": free_port(), "sink_max_wait_ms": 50})
    stack = StackFile(
        pid=os.getpid(),
        started=own_start_time(),
        ready=True,
        url="http://127.0.0.1:1",
        kafka=mine.kafka_bootstrap_servers,
        query_url=f"http://127.0.0.1:{mine.analytics_port}",
        engine="synthetic",
        children=[],
    )
    stack.write(tmp_path)
    analytics = process_of(mine, tmp_path)
    await analytics.start()
    try:
        async with history(mine, int(time.time() * 1000) - 600_000) as past:
            yield Site(mine, tmp_path, past, analytics)
    finally:
        await analytics.stop()


async def told(site: Site) -> list[UsageEvent]:
    events = [await site.past.tell(story) for story in [*stories(25), Story("twice", billed=2)]]
    await site.past.commit(stored=False)
    await site.caught_up()
    return events


async def test_rows_that_vanished_are_put_back_by_analytics(site: Site) -> None:
    events = await told(site)
    assert (await site.reconcile())[0] == 0
    await site.tamper(
        f"ALTER TABLE usage DELETE WHERE event_id IN ('{events[3].event_id}', '{events[25].event_id}') "
        "SETTINGS mutations_sync = 1"
    )
    status, report = await site.reconcile()
    assert (status, report["faults"]) == (1, {"missing": 2})
    assert {finding["request"] for finding in report["findings"]} == {"acme:twice", "tenant-0:key-3"}
    status, report = await site.reconcile("--repair")
    assert (status, report["clean"], report["repaired"]) == (0, True, {"read": 2, "refused": []})
    cost = sum(event.cost_nano for event in events)
    assert sum(line["clickhouse"]["cost_nano"] for line in report["sums"]) == cost


async def test_a_rebuilt_table_equals_the_old_one_or_takes_its_place(site: Site) -> None:
    events = await told(site)
    same = await site.run("rebuild")
    assert same.status == 0, same
    assert "the same rows as usage, to the nano-dollar" in same.out
    await site.tamper(
        f"INSERT INTO usage SELECT * FROM usage WHERE event_id = '{events[1].event_id}'",
        f"ALTER TABLE usage UPDATE cost_nano = cost_nano + 1 WHERE event_id = '{events[2].event_id}' "
        "SETTINGS mutations_sync = 2",
    )
    status, report = await site.reconcile()
    assert (status, report["faults"]) == (1, {"doubled": 1, "differs": 1})
    ended = await site.run("rebuild")
    assert ended.status == 1, ended
    assert "The tables differ for 2 tenants." in ended.out
    swapped = await site.run("rebuild", "--swap")
    assert swapped.status == 0, swapped
    assert (await site.reconcile())[0] == 0
    await site.past.tell(Story("after"))
    await site.past.commit(stored=False)
    await site.caught_up()
    status, report = await site.reconcile()
    assert (status, sum(line["accepted"] for line in report["tenants"])) == (0, 27)


async def test_on_a_server_the_swap_waits_until_nobody_writes(site: Site) -> None:
    async def refused() -> bool:
        """Once analytics, which is ready, has joined its group."""
        try:
            await check_quiet(site.settings)
        except StackError as error:
            return "1 analytics service" in str(error)
        return False

    await until(refused)
    assert await site.analytics.stop()
    await check_quiet(site.settings)


async def test_the_report_fits_the_terminal(site: Site) -> None:
    events = await told(site)
    await site.tamper(f"ALTER TABLE usage DELETE WHERE event_id = '{events[3].event_id}' SETTINGS mutations_sync = 1")
    for columns in (80, 120):
        ended = await site.run("reconcile", "--until", "0s", COLUMNS=str(columns))
        assert ended.status == 1, ended
        assert max(len(line) for line in ended.out.splitlines()) <= columns
        for part in ("1 missing", "tenant-0:key-3  at", "$0.123456789", "1 fault; sums differ for 1 tenant."):
            assert part in ended.out
    empty = await site.run("reconcile", "--since", "5m", "--until", "0s")
    assert "Nothing was accepted, and nothing billed." in empty.out
    backwards = await site.run("reconcile", "--since", "1m", "--until", "2m")
    assert (backwards.status, backwards.err) == (1, "millrace: --since must be before --until.\n")


async def test_the_maintenance_port_takes_only_orders_that_make_sense(site: Site) -> None:
    async with httpx.AsyncClient(base_url=site.url) as http:
        for missing in ({"0": [[3, 1]]}, {"0": [[-1, 1]]}, {"0": [[0, 1], [1, 2]]}, {"0": [[0, 2_000_000]]}, 7):
            answer = await http.post("/maintenance/repair", json={"missing": missing})
            assert answer.status_code == 400, missing
        form = await http.post("/maintenance/repair", data={"missing": "{}"})
        assert form.status_code == 400
        beyond = await http.post("/maintenance/repair", json={"missing": {"0": [[0, 5]], "99": [[0, 5]]}})
        assert (beyond.status_code, beyond.json()) == (200, {"read": 0, "refused": []})
        assert (await http.get("/maintenance/repair")).status_code == 405
