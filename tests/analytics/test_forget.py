"""A person's data goes, the money stays; and what Kafka still holds doesn't bring it back."""

from dataclasses import asdict

import pytest

from analytics.forget import forget, forget_again
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.reports import CostReport
from contracts.errors import InvalidRequest
from tests.support.usage import as_records, as_values, make_events

EVENTS = make_events(2000)
TENANT, USER = "tenant-3", "Zoë 4"
THEIRS = [event for event in EVENTS if (event.tenant, event.user) == (TENANT, USER)]


@pytest.fixture
def full(ledger: Ledger) -> Ledger:
    take_in(ledger, as_records(as_values(EVENTS)))
    return ledger


def count(ledger: Ledger, condition: str) -> int:
    return int(ledger.client.query(f"SELECT count() FROM usage WHERE {condition}").result_rows[0][0])


def test_nothing_tells_whose_the_rows_were_and_the_money_is_the_same(full: Ledger) -> None:
    before = {by: [asdict(line) for line in CostReport(by).lines(full.client)] for by in ((), ("tenant", "model"))}
    full.client.command("CREATE TABLE usage_before AS usage")
    full.client.command("INSERT INTO usage_before SELECT * FROM usage")
    assert forget(full.client, TENANT, USER) == {"usage": len(THEIRS), "usage_before": len(THEIRS)}
    for by, lines in before.items():
        assert [asdict(line) for line in CostReport(by).lines(full.client)] == lines
    users = {line.group[0] for line in CostReport(("user",), only={"tenant": TENANT}).lines(full.client)}
    assert USER not in users
    keys = ", ".join(f"'{event.idempotency_key}'" for event in THEIRS)
    for table in ("usage", "usage_before"):
        theirs = f"idempotency_key IN ({keys}) OR (tenant = '{TENANT}' AND user = '{USER}')"
        assert full.client.query(f"SELECT count() FROM {table} WHERE {theirs}").result_rows == [(0,)]
    bare = "idempotency_key = event_id AND user = '' AND trace_id = '' AND api_key_id = '' AND empty(tags)"
    assert count(full, bare) == len(THEIRS) > 5
    assert count(full, "user = 'Zoë 4'") == sum(e.user == USER for e in EVENTS) - len(THEIRS)


def test_an_event_that_is_delivered_again_does_not_bring_them_back(full: Ledger) -> None:
    forget(full.client, TENANT, USER)
    take_in(full, as_records(as_values(EVENTS), first_offset=50_000))
    assert count(full, "1") == len(EVENTS)
    assert count(full, f"tenant = '{TENANT}' AND user = '{USER}'") == 0


def test_a_table_made_anew_forgets_them_again_and_what_came_later_is_told(full: Ledger) -> None:
    forget(full.client, TENANT, USER)
    full.client.command("TRUNCATE TABLE usage")
    later = THEIRS[0].model_copy(update={"event_id": "later", "event_time": 4_000_000_000_000})
    take_in(full, as_records(as_values([*EVENTS, later])))
    forget_again(full.client, "usage")
    assert count(full, f"tenant = '{TENANT}' AND user = '{USER}'") == 1
    assert count(full, "idempotency_key = event_id") == len(THEIRS)


def test_a_name_is_only_ever_a_name(full: Ledger) -> None:
    assert forget(full.client, TENANT, "' OR 1 = 1 --") == {"usage": 0}
    assert count(full, "idempotency_key = event_id") == 0
    for tenant, user in (("", "x"), (TENANT, "")):
        with pytest.raises(InvalidRequest):
            forget(full.client, tenant, user)
