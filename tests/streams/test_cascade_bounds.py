"""When nobody answers a second time, however unsure the first answer is: what that may cost, and who asked for what."""

import pytest

from contracts.catalogue import Catalogue, parse_toml
from contracts.prices import load_prices
from contracts.settings import Settings
from tests.streams.actors import ask, body, text, work_records
from tests.streams.world import Produced, World

ROUTES = """
version = "t"
[models.small]
version = "2.5"
[models.large]
version = "2.5"
[[rules]]
name = "all"
model = "small"
cascade = { model = "large", max_cost_nano = %s }
"""
ENOUGH = 10**12


def first_attempt(model: str = "auto", *, bound: int = ENOUGH, ceiling: int = ENOUGH) -> Produced:
    catalogue = parse_toml(ROUTES % bound, "routes.toml", Catalogue)
    world = World(Settings(request_partitions=1, tenant_partitions=1), catalogue=catalogue)
    ask(world, value=body(model=model), headers=[("max-cost", str(ceiling).encode())])
    world.settle_down()
    (work,) = work_records(world)
    return work


def second_costs() -> int:
    """What the second answer is estimated at, nano-dollars."""
    work = first_attempt()
    price = load_prices().find("large", "2.5", work.timestamp)
    assert price is not None
    return price.cost(int(text(work, "prompt-estimate")), 0, int(text(work, "max-tokens")))


@pytest.mark.parametrize("of", ["bound", "ceiling"])
def test_one_that_would_cost_more_than_it_may_is_not_made(of: str) -> None:
    """More than the policy's bound, or than the caller's ceiling; to the nano-dollar."""
    just = second_costs()
    assert text(first_attempt(**{of: just}), "cascade")
    work = first_attempt(**{of: just - 1})
    assert (text(work, "model"), text(work, "cascade")) == ("small", "")


@pytest.mark.parametrize("model", ["auto:cheap", "auto:best", "small", "large"])
def test_only_what_a_rule_chose_is_answered_twice(model: str) -> None:
    assert not text(first_attempt(model), "cascade")
