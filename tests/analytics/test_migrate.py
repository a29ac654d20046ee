"""The schema can be applied again from any point, and describes itself."""

from pathlib import Path

import pytest

from analytics.clickhouse import connect, database_of
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.migrate import migrate, migrations
from contracts.errors import StackError
from contracts.settings import Settings
from contracts.usage import UsageEvent
from tests.support.usage import as_records, as_values, make_events


def test_again_changes_nothing(embedded: Settings, ledger: Ledger) -> None:
    take_in(ledger, as_records(as_values(make_events(5))))
    migrate(ledger.client, embedded)
    assert ledger.client.query("SELECT count() FROM usage").result_rows == [(5,)]
    assert ledger.client.query("SELECT number, name FROM migrations ORDER BY number").result_rows == [
        (migration.number, migration.name) for migration in migrations()
    ]


def test_after_a_crash_before_its_record_a_migration_runs_again(embedded: Settings, ledger: Ledger) -> None:
    take_in(ledger, as_records(as_values(make_events(5))))
    ledger.client.command("TRUNCATE TABLE migrations")
    migrate(ledger.client, embedded)
    assert ledger.client.query("SELECT count() FROM usage").result_rows == [(5,)]


def test_numbers_are_1_2_3() -> None:
    assert [migration.number for migration in migrations()] == [*range(1, len(migrations()) + 1)]


def test_the_database_is_atomic(embedded: Settings, ledger: Ledger) -> None:
    query = "SELECT engine FROM system.databases WHERE name = {name:String}"
    rows = ledger.client.query(query, parameters={"name": embedded.clickhouse_database}).result_rows
    assert rows == [("Atomic",)]


def test_every_field_of_an_event_is_a_column_and_every_column_says_what_it_is(ledger: Ledger) -> None:
    own = "database = currentDatabase() AND table != 'judged'"  # which has the columns of others
    rows = ledger.client.query(f"SELECT name, comment FROM system.columns WHERE {own}").result_rows
    comments = dict(rows)
    assert set(UsageEvent.model_fields) <= set(comments)
    assert [name for name, comment in rows if not comment] == []


def test_a_lookup_by_key_reads_few_granules(ledger: Ledger) -> None:
    events = make_events(60_000)
    for start in range(0, len(events), 20_000):
        take_in(ledger, as_records(as_values(events[start : start + 20_000]), first_offset=start))
    plan = "EXPLAIN indexes = 1 SELECT * FROM usage WHERE idempotency_key = {key:String}"
    text = "\n".join(
        row[0] for row in ledger.client.query(plan, parameters={"key": events[31_234].idempotency_key}).result_rows
    )
    assert "by_key" in text
    assert "Granules: 1/" in text


def test_a_foreign_config_file_is_one_sentence(
    embedded: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.xml").write_text("<clickhouse/>")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StackError, match=r"this folder's config\.xml"):
        connect(embedded)


def test_a_folder_that_cannot_be_made_is_one_sentence(embedded: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="can't be opened"):
        connect(embedded.model_copy(update={"clickhouse_path": tmp_path / "file" / "clickhouse"}))


@pytest.mark.parametrize(
    ("url", "database"),
    [(None, "given"), ("https://me@host:8443", "given"), ("https://me@host:8443/other%20one", "other one")],
)
def test_the_servers_address_may_name_the_database(url: str | None, database: str) -> None:
    assert database_of(Settings(clickhouse_url=url, clickhouse_database="given")) == database


def test_a_second_engine_handle_sees_what_is_there(embedded: Settings, ledger: Ledger) -> None:
    take_in(ledger, as_records(as_values(make_events(5))))
    with connect(embedded) as other:
        other.database = embedded.clickhouse_database
        assert other.query("SELECT count() FROM usage").result_rows == [(5,)]
