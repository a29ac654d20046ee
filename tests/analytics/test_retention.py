"""Rows go when their time is over, and the projections with them."""

import time

import pytest

from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.reports import CostReport
from contracts.errors import ConfigError
from contracts.settings import Settings
from tests.support.usage import as_records, as_values, make_events

DAY_MS = 86_400_000


def test_old_rows_go_and_what_is_left_adds_up(embedded: Settings, ledger: Ledger) -> None:
    now = int(time.time() * 1000)
    old = make_events(500, start=now - 40 * DAY_MS)
    young = make_events(500, seed=1, start=now - 3 * DAY_MS)
    take_in(ledger, as_records(as_values([*old, *young])))
    other = Ledger.open(embedded.model_copy(update={"ledger_retention_days": 30}))
    other.client.command("OPTIMIZE TABLE usage FINAL")
    assert other.client.query("SELECT count() FROM usage").result_rows == [(len(young),)]
    for by in (("tenant",), ("tenant", "feature", "model", "day"), ("tenant", "user"), ("route",)):
        lines = CostReport(by).lines(other.client)
        assert sum(line.cost_nano for line in lines) == sum(event.cost_nano for event in young)
        assert sum(line.requests for line in lines) == len(young)
    other.close()


def test_it_can_be_changed_and_taken_back(embedded: Settings, ledger: Ledger) -> None:
    def ttl() -> bool:
        created = "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'usage'"
        return "TTL" in ledger.client.query(created).result_rows[0][0]

    for days in (30, 60, 60, None, None, 30):
        Ledger.open(embedded.model_copy(update={"ledger_retention_days": days})).close()
        assert ttl() == (days is not None)


def test_the_log_must_go_first(embedded: Settings) -> None:
    with pytest.raises(ConfigError, match="MILLRACE_LEDGER_RETENTION_DAYS=2 is shorter than Kafka's"):
        Ledger.open(embedded.model_copy(update={"ledger_retention_days": 2}))
