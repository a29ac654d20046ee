"""What the engine wrote is read once: a file that a full disk has cut short shows before its rows are committed."""

import os
from pathlib import Path

import pytest

from analytics.block import lines
from analytics.clickhouse import Client
from analytics.ledger import Ledger
from analytics.soundness import NewParts, PartDamaged
from tests.support.usage import as_records, as_values, make_events


def insert(ledger: Ledger, first: int, end: int) -> None:
    events = make_events(end)[first:]
    ledger.insert(lines(as_records(as_values(events))), len(events))


def part_folders(client: Client) -> list[Path]:
    rows = client.query(
        "SELECT path FROM system.parts WHERE active AND database = currentDatabase() AND table = 'usage'"
    )
    return [Path(str(path)) for (path,) in rows.result_rows]


def cut_short(client: Client, name: str, length: int) -> None:
    """As a full disk does it."""
    [folder] = part_folders(client)
    os.truncate(folder / name, length)


@pytest.mark.parametrize(
    ("name", "length", "fault"),
    [
        ("checksums.txt", 0, "checksums.txt is empty"),
        ("data.bin", 0, "data.bin is empty"),
        ("data.bin", 100, "data.bin"),
    ],
)
def test_a_part_that_cannot_be_read_is_found(ledger: Ledger, name: str, length: int, fault: str) -> None:
    parts = NewParts(ledger.client, "usage")
    insert(ledger, 0, 20)
    parts.check()
    ledger.client.command("TRUNCATE TABLE usage")
    insert(ledger, 0, 20)
    cut_short(ledger.client, name, length)
    for _ in range(2):
        with pytest.raises(PartDamaged, match=rf"can't be read.*{fault}"):
            parts.check()


def test_each_part_is_looked_at_once(ledger: Ledger) -> None:
    insert(ledger, 0, 20)
    cut_short(ledger.client, "checksums.txt", 0)
    ledger.check()


def test_the_ledger_looks_at_each_block(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(NewParts, "check", lambda _: looks.append(len(part_folders(ledger.client))))
    insert(ledger, 0, 3)
    assert looks == [1]


def test_merged_parts_are_looked_at(ledger: Ledger) -> None:
    parts = NewParts(ledger.client, "usage")
    for start in (0, 10):
        insert(ledger, start, start + 10)
    ledger.client.command("OPTIMIZE TABLE usage FINAL")
    cut_short(ledger.client, "checksums.txt", 0)
    with pytest.raises(PartDamaged):
        parts.check()
    ledger.client.command("DETACH TABLE usage")  # as at an end,
    ledger.client.command("ATTACH TABLE usage")  # and at a new start
    assert ledger.client.query("SELECT count() FROM usage").result_rows[0][0] == 20
    NewParts(ledger.client, "usage").check()
