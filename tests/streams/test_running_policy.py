"""The policy in force changes as a whole or not at all."""

from importlib.resources import files
from typing import Any

import orjson

from contracts.bodies import describe
from contracts.catalogue import load_catalogue
from contracts.envelope import Admitted
from contracts.policy_record import POLICY_KEY, Calibration, PolicyRecord
from contracts.prices import load_prices
from streams.meter import meter
from streams.policy.running import RunningPolicy
from streams.route import Route
from streams.scoring.learned import shipped_scorer
from tests.streams.actors import ask
from tests.streams.world import World

AT = 1_790_000_000_000
SHIPPED = files("contracts").joinpath("routes.toml").read_text()
ALL_LARGE = SHIPPED.replace("max_complexity = 0.4", "max_complexity = 0")
BODY = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "Where is my order?"}]})


def running() -> RunningPolicy:
    return RunningPolicy(load_catalogue(), load_prices())


def record(toml: str = ALL_LARGE, **fields: Any) -> tuple[bytes, bytes]:
    return POLICY_KEY, PolicyRecord(toml=toml, applied_at=AT, **fields).model_dump_json().encode()


def model(policy: RunningPolicy) -> str:
    request = Admitted(
        **describe(BODY).digest.model_dump(), request_key="acme:k", claim="0.0", accepted_at=AT, deduped_at=AT
    )
    route = policy.choose(request, BODY, AT)
    assert isinstance(route, Route)
    return route.model


def test_an_applied_policy_is_used_and_a_tombstone_gives_back_the_files() -> None:
    policy = running()
    own = policy.version
    assert model(policy) == "small"
    policy.apply([record()])
    assert model(policy) == "large"
    assert policy.version != own
    policy.apply([(POLICY_KEY, None)])
    assert (model(policy), policy.version) == ("small", own)


def test_what_does_not_fit_is_passed_over_as_a_whole() -> None:
    policy = running()
    policy.apply([record()])
    before = policy.version
    unserved = SHIPPED.replace("[models.small]", "[models.new]\n[models.small]")
    other_keys = (b"other", record(SHIPPED)[1])
    for bad in (
        (POLICY_KEY, b"{"),
        record("version = 1"),
        record(unserved),
        record(SHIPPED, scorer={"bias": 1}),
        other_keys,
    ):
        policy.apply([bad])
        assert (model(policy), policy.version) == ("large", before)


def test_a_measured_threshold_takes_the_files_place() -> None:
    policy = running()
    measured = Calibration(
        rule="simple", spend_target=0.3, max_complexity=0.0, spend=0.2, requests=100, since=AT, until=AT
    )
    policy.apply([record(SHIPPED, calibration=measured)])
    assert model(policy) == "large"


def test_what_was_chosen_goes_on_as_it_was_when_the_policy_has_changed(world: World) -> None:
    policy = running()
    world.house = world.house._replace(routing=policy)
    world.stages["meter"] = meter(world.house)
    ask(world, value=BODY)
    world.settle_down()
    policy.apply([record()])
    world.positions["admitted", 0] = 0
    world.settle_down()
    ask(world, "acme:k2", BODY)
    world.settle_down()
    first, again = world.records("work.small.interactive")
    assert again.headers == first.headers
    assert [record.key for record in world.records("work.large.interactive")] == [b"acme:k2"]


def test_a_scorer_comes_with_the_policy_and_is_named_by_its_version() -> None:
    policy = running()
    suspicious = shipped_scorer().model_copy(update={"bias": 5.0}).model_dump()
    policy.apply([record(SHIPPED, scorer=suspicious)])
    assert model(policy) == "large"
    assert policy.version.split("/")[0] == running().version.split("/")[0]
    assert policy.version.split("/")[1] != running().version.split("/")[1]
