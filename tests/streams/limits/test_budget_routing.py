"""Near the end of a budget the policy prefers the small model: how near, the meter says, by what is used and held."""

from contracts.catalogue import Catalogue, parse_toml
from contracts.limits import Limit, dollars
from contracts.prices import load_prices
from contracts.settings import Settings
from tests.streams.actors import ask, body, finish, text, work_records
from tests.streams.world import START, Produced, World

ROUTES = """
version = "t"
[models.small]
version = "2.5"
[models.large]
version = "2.5"
[[rules]]
name = "saving"
model = "small"
min_budget_used = 0.5
[[rules]]
name = "rest"
model = "large"
"""


def world_under(*limits: Limit) -> World:
    catalogue = parse_toml(ROUTES, "routes.toml", Catalogue)
    world = World(Settings(request_partitions=1, tenant_partitions=1), catalogue=catalogue)
    world.policy.apply([(limit.selector.encode(), limit.encode()) for limit in limits])
    return world


def asked(world: World, key: str, *, user: str = "") -> Produced:
    """Its work."""
    ask(world, key, body(model="auto"), headers=[("user", user.encode())])
    world.settle_down()
    return max(work_records(world), key=lambda work: work.order)


def routed(world: World, key: str, *, user: str = "") -> tuple[str, str]:
    work = asked(world, key, user=user)
    return text(work, "model"), text(work, "route")


def large_costs() -> int:
    """What one request for the large model is reserved at, nano-dollars."""
    work = asked(world_under(), "acme:k")
    price = load_prices().find("large", "2.5", START)
    assert price is not None
    return price.cost(int(text(work, "prompt-estimate")), 0, int(text(work, "max-tokens")))


def test_from_the_share_on_that_the_rule_names_requests_go_to_the_small_model() -> None:
    world = world_under(Limit(tenant="acme", dollars_per_day=dollars(4 * large_costs())))
    models = [routed(world, f"acme:k{number}") for number in range(4)]
    assert models == [("large", "rest")] * 2 + [("small", "saving")] * 2
    assert routed(world, "globex:k") == ("large", "rest")


def test_what_is_given_back_counts_no_more() -> None:
    world = world_under(Limit(tenant="acme", dollars_per_month=dollars(2 * large_costs())))
    first = asked(world, "acme:k1")
    assert routed(world, "acme:k2") == ("small", "saving")
    finish(world, first, prompt_tokens=1, completion_tokens=0)
    world.settle_down()
    assert routed(world, "acme:k3") == ("large", "rest")


def test_the_tightest_budget_of_those_that_it_counts_against_decides() -> None:
    each = large_costs()
    world = world_under(
        Limit(tenant="acme", dollars_per_month=dollars(100 * each)),
        Limit(tenant="acme", user="ann", dollars_per_day=dollars(2 * each)),
    )
    assert routed(world, "acme:k1", user="ann") == ("large", "rest")
    assert routed(world, "acme:k2", user="ann") == ("small", "saving")
    assert routed(world, "acme:k3", user="ben") == ("large", "rest")
