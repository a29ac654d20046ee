"""The schema can be applied again from any point, and describes itself."""

from analytics.clickhouse import connect
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.migrate import migrate, migrations
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
    rows = ledger.client.query(
        "SELECT name, comment FROM system.columns WHERE database = currentDatabase()"
    ).result_rows
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


def test_a_second_engine_handle_sees_what_is_there(embedded: Settings, ledger: Ledger) -> None:
    take_in(ledger, as_records(as_values(make_events(5))))
    with connect(embedded) as other:
        other.database = embedded.clickhouse_database
        assert other.query("SELECT count() FROM usage").result_rows == [(5,)]
