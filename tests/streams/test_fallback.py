"""A model that can't take a request now: who does instead, and when nobody does."""

from typing import Any

import orjson
import pytest

from contracts.cascade import Cascade
from contracts.catalogue import Catalogue, ModelSpec, Rule, parse_toml
from contracts.envelope import Admitted, Digest
from contracts.errors import ConfigError
from contracts.prices import PriceTable
from streams.policy.case import Conditions
from streams.route import Refusal, Route, Router
from tests.streams.test_route import HARD, price

AT = 1_790_000_000_000
CATALOGUE = Catalogue(
    version="c1",
    models={
        "small": ModelSpec(),
        "medium": ModelSpec(context_tokens=1000),
        "large": ModelSpec(fallback=("medium", "small")),
    },
    rules=[Rule(name="simple", model="small", max_complexity=0.3), Rule(name="complex", model="large")],
)
DOWN = Conditions(down={"large": "no_worker"})
PRICES = PriceTable(version="p1", prices=[price("small", "1"), price("medium", "5"), price("large", "10")])


def choose(
    now: Conditions, model: str = "large", body: bytes = HARD, catalogue: Catalogue = CATALOGUE, **fields: Any
) -> Route | Refusal:
    asked = {"prompt_estimate": 10, "max_tokens": 10, **fields}
    digest = Digest(
        operation="chat",
        requested_model=model,
        fingerprint="0" * 32,
        **{name: asked.pop(name) for name in ("prompt_estimate", "max_tokens")},
    )
    request = Admitted(**digest.model_dump(), request_key="acme:k", claim="0.0", accepted_at=AT, deduped_at=AT, **asked)
    return Router(catalogue, PRICES).choose(request, body, AT, now)


def went(route: Route | Refusal) -> tuple[str, str, str, str]:
    assert isinstance(route, Route)
    return route.model, route.rule, route.fallback_from, route.fallback_reason


def test_a_model_that_can_take_it_is_honoured() -> None:
    assert went(choose(Conditions(waits_ms={"large": 5000}), deadline=AT + 5000)) == ("large", "named", "", "")


@pytest.mark.parametrize("reason", ["no_worker", "failing"])
def test_a_model_that_is_down_is_stood_in_for_by_the_next_in_its_chain(reason: Any) -> None:
    assert went(choose(Conditions(down={"large": reason}))) == ("medium", "named", "large", reason)
    both = Conditions(down={"large": reason, "medium": "no_worker"})
    assert went(choose(both)) == ("small", "named", "large", reason)


def test_a_wait_past_the_deadline_spills_over() -> None:
    busy = Conditions(waits_ms={"large": 5001, "medium": 9000})
    assert went(choose(busy, deadline=AT + 5000)) == ("small", "named", "large", "over_capacity")
    assert went(choose(busy)) == ("large", "named", "", "")


def test_who_stands_in_must_be_able_and_affordable() -> None:
    down = Conditions(down={"large": "no_worker"})
    assert went(choose(down, prompt_estimate=2000))[0] == "small"
    tools = orjson.dumps({"messages": [], "tools": [{"type": "function"}]})
    plain = CATALOGUE.model_copy(
        update={"models": CATALOGUE.models | {"medium": ModelSpec(abilities=())}},
    )
    assert went(choose(down, body=tools, catalogue=plain))[0] == "small"


def test_without_a_chain_it_waits_unless_its_deadline_is_too_near() -> None:
    down = Conditions(down={"small": "no_worker"}, waits_ms={"small": 30_000})
    assert went(choose(down, "small")) == ("small", "named", "", "")
    assert went(choose(down, "small", deadline=AT + 30_000)) == ("small", "named", "", "")
    refusal = choose(down, "small", deadline=AT + 29_000)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.retry_after_ms) == (503, "no_worker", 1000)


def test_over_capacity_is_529_until_the_wait_is_short_enough() -> None:
    refusal = choose(Conditions(waits_ms={"small": 5000}), "small", deadline=AT + 2000)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.retry_after_ms) == (529, "over_capacity", 3000)
    assert isinstance(choose(Conditions(waits_ms={"small": 2000}), "small", deadline=AT + 2000), Route)


def test_the_usual_deadline_counts_for_those_that_name_none() -> None:
    busy = Conditions(waits_ms={"small": 5000}, deadline=AT + 2000)
    assert isinstance(choose(busy, "small"), Refusal)
    assert isinstance(choose(busy, "small", deadline=AT + 6000), Route)


def test_a_deadline_that_has_passed_is_no_models_fault() -> None:
    assert isinstance(choose(Conditions(waits_ms={"small": 5000}), "small", deadline=AT - 1), Route)


def test_failing_without_anybody_to_stand_in_is_tried_all_the_same() -> None:
    assert went(choose(Conditions(down={"small": "failing"}), "small")) == ("small", "named", "", "")


def test_auto_goes_where_the_rules_send_it_without_the_model_that_is_away() -> None:
    assert went(choose(Conditions(down={"large": "no_worker"}), "auto")) == ("medium", "complex", "large", "no_worker")
    easy = orjson.dumps({"messages": [{"role": "user", "content": "Hello"}]})
    away = Conditions(down={"small": "no_worker"})
    assert went(choose(away, "auto", easy)) == ("large", "complex", "small", "no_worker")
    nobody = Conditions(down=dict.fromkeys(CATALOGUE.models, "no_worker"))
    assert went(choose(nobody, "auto", easy)) == ("small", "simple", "", "")


def test_no_answer_goes_on_to_a_model_that_is_away() -> None:
    rule = Rule(name="all", model="small", cascade=Cascade(model="large"))
    policy = CATALOGUE.model_copy(update={"rules": [rule]})
    calm, away = choose(Conditions(), "auto", catalogue=policy), choose(DOWN, "auto", catalogue=policy)
    assert isinstance(calm, Route)
    assert isinstance(away, Route)
    assert calm.cascade
    assert away == calm._replace(cascade="")


@pytest.mark.parametrize(
    ("chain", "says"),
    [('["none"]', "'none'"), ('["large"]', "its own fallback"), ('["small", "small"]', "twice")],
)
def test_a_chain_that_leads_nowhere_is_refused_with_its_line(chain: str, says: str) -> None:
    text = (
        f'version = "1"\n[models.small]\n[models.large]\nfallback = {chain}\n[[rules]]\nname = "all"\nmodel = "small"\n'
    )
    with pytest.raises(ConfigError, match="line 4") as error:
        parse_toml(text, "routes.toml", Catalogue)
    assert says in error.value.message
