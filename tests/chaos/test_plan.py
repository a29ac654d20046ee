"""What the load is made of: the same for the same seed, and everything that it claims to have."""

from itertools import islice
from pathlib import Path

from contracts.catalogue import load_catalogue
from tests.chaos.answers import Door
from tests.chaos.cascade import UNSURE, write_routes
from tests.chaos.limits import FRUGAL, NARROW
from tests.chaos.plan import plan


def test_a_seed_asks_the_same_again() -> None:
    first, again, other = (list(islice(plan(seed), 300)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_the_load_has_all_that_clients_do() -> None:
    planned = list(islice(plan(1), 600))
    asks = [ask for one in planned for ask in one.asks]
    assert {ask.door for ask in asks} == set(Door)
    assert {ask.on_disconnect for ask in asks if ask.leaves_after} == {"cancel", "detach", "drain"}
    assert {ask.on_disconnect for ask in asks if ask.cuts} == {"cancel", "detach", "drain"}
    assert {ask.key.partition(":")[0] for ask in asks} > {FRUGAL, NARROW, UNSURE}
    assert {ask.body["metadata"]["synthetic_logprob"] for ask in asks if "metadata" in ask.body} == {"-0.01", "-3"}
    assert {one.delete_after for one in planned} > {None, 0.0}
    assert any(len({ask.door for ask in one.asks}) == 2 for one in planned)
    assert all(ask.on_disconnect == "detach" for ask in asks if ask.timed), "who stays isn't cancelled by others"


def test_keys_are_asked_for_once_each() -> None:
    keys = [{ask.key for ask in one.asks} for one in islice(plan(1), 600)]
    assert sum(map(len, keys)) == len(set().union(*keys))


def test_the_policy_lets_one_tenants_requests_escalate(tmp_path: Path) -> None:
    catalogue, shipped = load_catalogue(write_routes(tmp_path / "new")), load_catalogue()
    first, *others = catalogue.rules
    assert (first.tenants, first.model, others) == ([UNSURE], "small", shipped.rules)
    assert first.cascade
    assert first.shadow
    assert catalogue.models == shipped.models
