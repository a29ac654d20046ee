import orjson
import pytest

from contracts.catalogue import Catalogue, ModelSpec, Rule
from contracts.envelope import Admitted, Digest
from contracts.prices import Price, PriceTable
from streams.complexity import scorer
from streams.route import Refusal, Route, Router
from tests.streams.world import START

CATALOGUE = Catalogue(
    version="c1",
    models={"small": ModelSpec(context_tokens=1000), "large": ModelSpec(context_tokens=10_000), "aside": ModelSpec()},
    rules=[
        Rule(name="simple", model="small", max_complexity=0.3, max_prompt_tokens=500),
        Rule(name="complex", model="large"),
    ],
)


def price(model: str, dollars: str) -> Price:
    return Price.model_validate(
        {"model": model, "since": "2020-01-01", "input": dollars, "cached_input": dollars, "output": dollars}
    )


PRICES = PriceTable(version="p1", prices=[price("small", "1"), price("large", "10")])
EASY = orjson.dumps({"messages": [{"role": "user", "content": "Hello"}]})
HARD = orjson.dumps({"messages": [{"role": "user", "content": "Prove it, compare, justify: ```x = f()``` $a$ solve"}]})


def choose(
    model: str = "auto", body: bytes = EASY, *, tokens: int = 10, max_cost: int | None = None, max_tokens: int = 10
) -> Route | Refusal:
    digest = Digest(
        operation="chat",
        requested_model=model,
        fingerprint="0" * 32,
        prompt_estimate=tokens,
        max_tokens=max_tokens,
    )
    request = Admitted(
        **digest.model_dump(), request_key="acme:k", claim="0.0", accepted_at=0, deduped_at=0, max_cost=max_cost
    )
    return Router(CATALOGUE, PRICES).choose(request, body, START)


def test_a_named_model_is_honoured_and_its_body_isnt_read() -> None:
    assert choose("large", b"not JSON") == Route("large", "named", 0.0, 20)


def test_auto_takes_the_first_rule_that_fits() -> None:
    easy, hard = choose(), choose(body=HARD)
    assert isinstance(easy, Route)
    assert isinstance(hard, Route)
    assert (easy.model, easy.rule) == ("small", "simple")
    assert (hard.model, hard.rule) == ("large", "complex")
    assert easy.complexity < 0.3 < hard.complexity


def test_auto_heeds_the_prompts_length() -> None:
    route = choose(tokens=600)
    assert isinstance(route, Route)
    assert route.model == "large"


def test_a_prompt_that_fits_no_context_is_refused() -> None:
    refusal = choose(tokens=20_000)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, "prompt_too_long")


def test_a_cost_ceiling_sends_to_the_cheapest_model() -> None:
    dear = 20 * 10_000  # 20 tokens on the large model, nano-dollars
    route = choose(body=HARD, max_cost=dear)
    assert isinstance(route, Route)
    assert route.model == "large"
    cheaper = choose(body=HARD, max_cost=dear - 1)
    assert isinstance(cheaper, Route)
    assert (cheaper.model, cheaper.rule) == ("small", "max-cost")


@pytest.mark.parametrize("model", ["auto", "large"])
def test_a_ceiling_below_every_model_is_refused(model: str) -> None:
    refusal = choose(model, max_cost=1)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, "max_cost_exceeded")


def test_the_version_names_the_policy_and_the_scorer_to_the_bit() -> None:
    version = Router(CATALOGUE, PRICES).version
    assert version.startswith("c1+")
    assert "/learned-" in version
    other = CATALOGUE.model_copy(update={"rules": CATALOGUE.rules[1:]})
    assert Router(other, PRICES).version != version
    assert Router(CATALOGUE, PRICES, scorer("features")).version.endswith("/features")


def test_a_model_that_is_gone_is_404() -> None:
    refusal = choose("old")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 404


def test_a_body_that_cant_be_read_is_refused() -> None:
    refusal = choose(body=b"{")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400


def test_the_answer_cant_outgrow_the_context() -> None:
    route = choose("small", max_tokens=1_000_000)
    assert isinstance(route, Route)
    assert route.tokens == 10 + 1000
