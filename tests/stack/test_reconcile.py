"""On the running stack, after whatever traffic the other tests have sent: nothing is off."""

import json
from pathlib import Path

import pytest

from tests.support.commands import millrace

pytestmark = pytest.mark.stack
SAMPLE = Path(__file__).parents[2] / "millrace/samples/azure_llm_2023_conv_1000.csv"


async def test_real_traffic_reconciles_and_rebuilds(data_dir: Path) -> None:
    replayed = await millrace(data_dir, "replay", SAMPLE, "--speed", 40, "--limit", 60)
    assert replayed.status == 0, replayed
    ended = await millrace(data_dir, "reconcile", "--until", "0s", "--format", "json")
    assert ended.status == 0, ended
    report = json.loads(ended.out)
    assert report["clean"]
    assert sum(line["accepted"] for line in report["tenants"]) >= 60
    for line in report["tenants"]:
        ends = line["verdicts"]
        assert line["accepted"] == ends.get("settled", 0) + ends.get("superseded", 0) + ends.get("in_flight", 0)
    rebuilt = await millrace(data_dir, "rebuild")
    assert rebuilt.status == 0, rebuilt
    assert "to the nano-dollar" in rebuilt.out
