"""The row policies of docs/analytics.md: a tenant sees its own rows alone, in every table and through every view."""

import asyncio
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from analytics.duplicates import DUPLICATES
from analytics.feedback import FEEDBACK
from analytics.intake import take_in
from analytics.ledger import Ledger
from contracts.settings import Settings
from tests.support.row_policy import write_policy
from tests.support.usage import as_records, as_values, make_events

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "analytics.md").read_text()
POLICIES = dict(re.findall(r"CREATE ROW POLICY own ON millrace\.(\w+) USING (.+?) TO ALL", PAGE))
MINE = "default"  # the name of the engine's only user


async def test_a_tenant_sees_its_own_rows_alone(tmp_path: Path) -> None:
    folder = tmp_path / "clickhouse"
    nano = await _run("-c", _FILL, str(folder), cwd=ROOT)
    write_policy(tmp_path, POLICIES)
    told = json.loads(await _run("-m", "tests.support.row_policy", str(folder), cwd=tmp_path))
    assert {"usage", "feedback", "duplicates", "cost_daily", "margin_daily", "judged"} <= set(told["seen"])
    assert set(map(tuple, told["seen"].values())) == {(MINE,)}, told["seen"]
    assert told["sums"] == told["by hand"] == [[MINE, int(nano)]]


def fill(folder: Path) -> int:
    """Two tenants' rows in every table. Nano-dollars of the one that will look."""
    ledger = Ledger.open(Settings(clickhouse_path=folder))
    tenants = (MINE, "acme")
    events = [event.model_copy(update={"tenant": tenants[n % 2]}) for n, event in enumerate(make_events(200))]
    take_in(ledger, as_records(as_values(events)))
    at = datetime.fromtimestamp(events[0].event_time / 1000, UTC)
    for number, event in enumerate(event for event in events if event.outcome.billed):
        ledger.client.insert(
            "feedback", [(event.tenant, event.idempotency_key, 1.0, "", at, 0, number)], column_names=FEEDBACK.columns
        )
    rows = [(tenant, at, f"0.{n}", "", "x", "joined") for n, tenant in enumerate(tenants)]
    ledger.client.insert("duplicates", rows, column_names=DUPLICATES.columns)
    ledger.client.insert(
        "usage",
        [["c", at, "credit", tenant, -5] for tenant in tenants],
        column_names=["event_id", "event_time", "kind", "tenant", "cost_nano"],
    )
    ledger.close()
    return sum(event.cost_nano for event in events if event.tenant == MINE) - 5


_FILL = """
import sys
from pathlib import Path
from tests.analytics.test_row_policy import fill
nano = fill(Path(sys.argv[1]))
print(nano)
"""


async def _run(*arguments: str, cwd: Path) -> str:
    """The last line that a process of its own prints: one engine is one process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=cwd, env={"PYTHONPATH": str(ROOT), "PATH": ""}, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(120):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().splitlines()[-1]
