"""Which limits hold for whom: within a kind the more particular one, across kinds all of them."""

from contracts.limits import Limit
from streams.limits.account import TENANT, Whose
from streams.limits.policy import Policy


def policy(*limits: Limit) -> Policy:
    made = Policy(Limit(tokens_per_minute=1000, requests_per_minute=10))
    made.apply((limit.selector.encode(), limit.encode()) for limit in limits)
    return made


def figures(
    made: Policy, tenant: str = "acme", user: str = "", feature: str = "", key: str = ""
) -> dict[Whose, dict[str, int]]:
    holding = made.holding(tenant, user, feature, key)
    return {held.whose: {measure.name: limit for measure, limit in held.limits} for held in holding}


def test_without_any_limit_the_default_of_each_tenant_holds() -> None:
    assert figures(policy(), user="ann") == {TENANT: {"tokens_per_minute": 1000, "requests_per_minute": 10}}


def test_a_tenants_own_limit_stands_before_that_of_each_and_before_the_default() -> None:
    made = policy(Limit(tokens_per_minute=50, tokens_per_day=500), Limit(tenant="acme", tokens_per_minute=70))
    assert figures(made) == {TENANT: {"tokens_per_minute": 70, "tokens_per_day": 500, "requests_per_minute": 10}}
    assert figures(made, "bolt")[TENANT]["tokens_per_minute"] == 50


def test_unlimited_ends_a_more_general_limit() -> None:
    made = policy(Limit(tenant="acme", tokens_per_minute="unlimited"))
    assert figures(made) == {TENANT: {"requests_per_minute": 10}}
    [held] = made.holding("acme", "", "", "")
    assert "tokens_per_minute" not in {measure.name for measure, _ in held.counted}


def test_every_kind_that_concerns_a_request_holds() -> None:
    made = policy(
        Limit(user="*", tokens_per_day=100),
        Limit(tenant="acme", feature="chat", dollars_per_day="2.50"),
        Limit(tenant="acme", user="ann", feature="chat", concurrent_requests=2),
        Limit(tenant="bolt", api_key="key-1", requests_per_minute=1),
    )
    found = figures(made, user="ann", feature="chat", key="key-1")
    assert {whose: limits for whose, limits in found.items() if whose != TENANT} == {
        Whose(user="ann"): {"tokens_per_day": 100},
        Whose(feature="chat"): {"dollars_per_day": 2_500_000_000},
        Whose(user="ann", feature="chat"): {"concurrent_requests": 2},
    }


def test_one_users_own_limit_sets_only_the_figures_that_it_gives() -> None:
    made = policy(Limit(user="*", tokens_per_day=100, requests_per_minute=5), Limit(user="ann", tokens_per_day=900))
    assert figures(made, user="ann")[Whose("ann")] == {"tokens_per_day": 900, "requests_per_minute": 5}
    assert figures(made, user="ben")[Whose("ben")] == {"tokens_per_day": 100, "requests_per_minute": 5}


def test_what_names_the_tenant_is_the_more_particular_one() -> None:
    made = policy(Limit(user="ann", tokens_per_day=1), Limit(tenant="acme", user="*", tokens_per_day=2))
    assert figures(made, user="ann")[Whose("ann")] == {"tokens_per_day": 2}


def test_each_user_means_those_with_a_name() -> None:
    made = policy(Limit(user="*", tokens_per_day=100))
    assert [*figures(made)] == [TENANT]
    nameless = policy(Limit(user="*", tokens_per_day=100), Limit(user="", tokens_per_day=7))
    assert figures(nameless)[Whose("")] == {"tokens_per_day": 7}


def test_a_change_holds_at_once_and_a_tombstone_ends_it() -> None:
    made = policy()
    limit = Limit(tenant="acme", tokens_per_minute=1)
    made.apply([(limit.selector.encode(), limit.encode())])
    assert figures(made)[TENANT]["tokens_per_minute"] == 1
    made.apply([(limit.selector.encode(), None)])
    assert figures(made)[TENANT]["tokens_per_minute"] == 1000


def test_a_record_that_cant_be_read_is_passed_over() -> None:
    made = policy(Limit(tenant="acme", tokens_per_minute=1))
    key = Limit(tenant="acme", tokens_per_minute=2).selector.encode()
    made.apply([(b"?", b"{}"), (None, None), (key, b'{"tokens_per_minute": -1}')])
    assert figures(made)[TENANT]["tokens_per_minute"] == 1
