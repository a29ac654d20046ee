"""A rule with a reference asks for more complexity of a request that would cost more on the better model."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.bodies import describe
from contracts.catalogue import Catalogue, parse_toml
from contracts.envelope import Admitted
from contracts.policy_record import Calibration, PolicyRecord
from contracts.prices import Price, PriceTable
from streams.complexity import Complexity, Scorer
from streams.policy.case import relative
from streams.route import Route, Router

AT = 1_790_000_000_000
MODELS = 'version = "t"\n[models.small]\n[models.large]\nquality = 1\n'
SIMPLE = '[[rules]]\nname = "simple"\nmodel = "small"\nmax_complexity = 0.4\nspend_target = 0.5\n'
REST = '[[rules]]\nname = "rest"\nmodel = "large"\n'
TOML = MODELS + SIMPLE + REST
REFERENCE = 900_000  # nano-dollars: 100 tokens at 9 dollars a million


def price(model: str, dollars: str) -> Price:
    fields = {"model": model, "since": "2020-01-01", "input": dollars, "cached_input": dollars, "output": dollars}
    return Price.model_validate(fields)


PRICES = PriceTable(version="p", prices=[price("small", "1"), price("large", "10")])


def scoring(complexity: float) -> Scorer:
    return Scorer("features", "fixed", lambda *_: Complexity(complexity, {}))


def router(
    complexity: float, reference: int | None = REFERENCE, toml: str = TOML, prices: PriceTable = PRICES
) -> Router:
    return Router(record(reference, toml).catalogue(), prices, scoring(complexity))


def record(reference: int | None, toml: str = TOML, max_complexity: float = 0.4) -> PolicyRecord:
    figures: dict[str, Any] = {"spend_target": 0.5, "spend": 0.4, "requests": 60, "since": 0, "until": AT}
    measured = Calibration(rule="simple", max_complexity=max_complexity, reference_nano=reference, **figures)
    return PolicyRecord(toml=toml, calibration=measured, applied_at=AT)


def asked(tokens: int) -> tuple[Admitted, bytes, int]:
    """Of so many tokens, half of them the answer's."""
    body = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "?"}], "max_tokens": tokens // 2})
    digest = describe(body).digest.model_copy(update={"prompt_estimate": tokens - tokens // 2})
    request = Admitted(**digest.model_dump(), request_key="acme:k", claim="0.0", accepted_at=AT, deduped_at=AT)
    return request, body, AT


def model(router: Router, tokens: int = 100) -> str:
    route = router.choose(*asked(tokens))
    assert isinstance(route, Route)
    return route.model


@pytest.mark.parametrize(
    ("tokens", "most"),
    [(100, 0.4), (200, 0.8), (50, 0.2), (1000, 4.0)],
)
def test_twice_the_extra_cost_asks_for_twice_the_complexity(tokens: int, most: float) -> None:
    assert model(router(min(1.0, most)), tokens) == "small"
    if most < 1:
        assert model(router(most + 0.001), tokens) == "large"


@given(st.floats(0, 1), st.integers(2, 10_000), st.integers(2, 10_000))
def test_who_stays_for_its_price_stays_when_it_costs_more(complexity: float, one: int, other: int) -> None:
    policy = router(complexity)
    if model(policy, min(one, other)) == "small":
        assert model(policy, max(one, other)) == "small"


@given(st.floats(0, 1), st.integers(1, 10**9), st.integers(1, 10**9))
def test_complexity_counts_as_it_is_at_the_reference(complexity: float, reference: int, extra: int) -> None:
    assert relative(complexity, reference, reference) == pytest.approx(complexity)
    assert relative(complexity, None, reference) == relative(complexity, extra, None) == complexity
    assert relative(complexity, extra, reference) <= relative(complexity, 1, reference)


def test_a_policy_of_before_decides_by_complexity_alone() -> None:
    old = orjson.loads(record(None).model_dump_json())
    del old["calibration"]["reference_nano"]
    catalogue = PolicyRecord.decode(orjson.dumps(old)).catalogue()
    assert catalogue == record(None).catalogue()
    for tokens in (2, 100, 10_000):
        assert model(Router(catalogue, PRICES, scoring(0.4)), tokens) == "small"
        assert model(Router(catalogue, PRICES, scoring(0.401)), tokens) == "large"


def test_only_a_reference_changes_the_version_of_a_policy() -> None:
    assert "reference_nano" not in record(None).catalogue().model_dump_json()
    assert router(0.5, None).version == Router(parse_toml(TOML, "t", Catalogue), PRICES, scoring(0.5)).version
    assert router(0.5).version != router(0.5, None).version


def test_what_costs_no_more_on_the_better_model_goes_there() -> None:
    free = PriceTable(version="p", prices=[price("small", "1"), price("large", "1")])
    assert model(router(0.001, prices=free)) == "large"
    assert model(router(0.0, prices=free)) == "small"


def test_where_no_other_rule_takes_it_there_is_no_price_to_compare() -> None:
    only = MODELS + SIMPLE + REST + 'tenants = ["other"]\n'
    assert model(router(0.4, toml=only), 2) == "small"
    request, body, at = asked(2)
    policy = router(0.4, toml=only)
    assert policy.extra_cost(policy.catalogue.rules[0], request, body, at) is None


def test_what_it_costs_more_is_to_the_model_that_would_have_it() -> None:
    """The rule between them takes what is easier still, at twice the small model's price."""
    between = '[[rules]]\nname = "between"\nmodel = "middle"\nmax_complexity = 0.5\n'
    toml = MODELS + "[models.middle]\n" + SIMPLE + between + REST
    prices = PriceTable(version="p", prices=[*PRICES.prices, price("middle", "2")])
    for complexity, extra in ((0.5, 100_000), (0.6, 900_000)):
        policy = router(complexity, toml=toml, prices=prices)
        assert policy.extra_cost(policy.catalogue.rules[0], *asked(100)) == extra
