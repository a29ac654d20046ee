"""Every condition of a policy: which model serves whom, always the same one for the same request."""

from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.bodies import describe
from contracts.catalogue import Catalogue, parse_toml
from contracts.envelope import Admitted
from contracts.prices import Price, PriceTable
from streams.policy.case import CALM, Conditions
from streams.policy.needs import needs, opening
from streams.policy.split import pick
from streams.route import Refusal, Route, Router

AT = 1_790_000_000_000
EASY = "Where is my order?"
HARD = "Prove it, compare, justify: ```x = f()``` $a$ solve the integral, then derive the theorem step by step"
MODELS = """
version = "t"
scorer = "features"
[models.small]
context_tokens = 1000
[models.large]
context_tokens = 20000
quality = 2
abilities = ["tools", "vision", "json_schema"]
[models.canary]
context_tokens = 1000
tokens_per_second = 90
"""
SIMPLE = '[[rules]]\nname = "simple"\nmodel = "small"\nmax_complexity = 0.3\n'
REST = '[[rules]]\nname = "rest"\nmodel = "large"\n'


def price(model: str, dollars: str, cached: str) -> Price:
    fields = {"model": model, "since": "2020-01-01", "input": dollars, "cached_input": cached, "output": dollars}
    return Price.model_validate(fields)


PRICES = PriceTable(
    version="p", prices=[price("small", "1", "0.5"), price("large", "10", "0.6"), price("canary", "2", "1")]
)


def router(rules: str, top: str = "") -> Router:
    return Router(parse_toml(top + MODELS + rules, "t", Catalogue), PRICES)


def chat(*said: str, **fields: Any) -> dict[str, Any]:
    """Turns of the user, each but the last one answered."""
    messages = [{"role": "user", "content": said[0]}]
    for question in said[1:]:
        messages += [{"role": "assistant", "content": "word " * 200}, {"role": "user", "content": question}]
    return {"model": "auto", "messages": messages, **fields}


def choose(
    router: Router, body: dict[str, Any], now: Conditions = CALM, key: str = "acme:k", **headers: Any
) -> Route | Refusal:
    raw = orjson.dumps(body)
    digest = describe(raw).digest.model_dump()
    request = Admitted(**digest, request_key=key, claim="0.0", accepted_at=AT, deduped_at=AT, **headers)
    return router.choose(request, raw, AT, now)


def chosen(*args: Any, **kwargs: Any) -> tuple[str, str]:
    route = choose(*args, **kwargs)
    assert isinstance(route, Route), route
    return route.model, route.rule


def refused(*args: Any, **kwargs: Any) -> str:
    refusal = choose(*args, **kwargs)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400
    return refusal.code


TOOL = {"type": "function", "function": {"name": "weather"}}
IMAGE = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}


@pytest.mark.parametrize(
    ("body", "needed"),
    [
        (chat(EASY), []),
        (chat(EASY, tools=[TOOL]), ["tools"]),
        (chat(EASY, tools=[]), []),
        ({"model": "auto", "messages": [{"role": "user", "content": IMAGE}]}, ["vision"]),
        (chat(EASY, tools=[TOOL], response_format=SCHEMA), ["tools", "json_schema"]),
        (chat(EASY, response_format={"type": "json_object"}), []),
    ],
)
def test_what_a_body_needs(body: dict[str, Any], needed: list[str]) -> None:
    assert needs(body) == needed


def test_a_request_goes_only_to_a_model_that_is_able() -> None:
    policy = router(SIMPLE + REST)
    image = {"model": "auto", "messages": [{"role": "user", "content": IMAGE}]}
    assert chosen(policy, chat(EASY)) == ("small", "simple")
    assert chosen(policy, image) == ("large", "rest")
    assert refused(router(SIMPLE), image) == "unsupported_ability"


def test_a_named_model_is_honoured_whatever_it_is_able_to() -> None:
    image = {"model": "small", "messages": [{"role": "user", "content": IMAGE}]}
    assert chosen(router(REST), image) == ("small", "named")


def test_cheap_and_best_pass_over_the_rules_but_not_over_what_they_allow() -> None:
    policy = router(SIMPLE + REST)
    assert chosen(policy, chat(HARD) | {"model": "auto:cheap"}) == ("small", "auto:cheap")
    assert chosen(policy, chat(EASY) | {"model": "auto:best"}) == ("large", "auto:best")
    assert chosen(policy, chat("word " * 2000) | {"model": "auto:cheap"}) == ("large", "auto:cheap")
    assert chosen(router(SIMPLE), chat(HARD) | {"model": "auto:best"}) == ("small", "auto:best")


def test_best_is_the_best_that_the_ceiling_allows() -> None:
    policy = router(SIMPLE + REST)
    assert chosen(policy, chat(EASY) | {"model": "auto:best"}, max_cost=1_000_000) == ("small", "auto:best")
    assert refused(policy, chat(EASY) | {"model": "auto:best"}, max_cost=1) == "max_cost_exceeded"


@pytest.mark.parametrize(
    ("bound", "inside", "outside"),
    [
        ('tenants = ["acme"]', {"key": "acme:k"}, {"key": "other:k"}),
        ('features = ["faq", "help"]', {"feature": "help"}, {"feature": "code"}),
        ('users = ["ann"]', {"user": "ann"}, {"user": "ben"}),
        ("min_budget_used = 0.9", {"now": Conditions(budget_used=0.9)}, {"now": Conditions(budget_used=0.89)}),
    ],
)
def test_a_rule_is_for_those_it_names(bound: str, inside: dict[str, Any], outside: dict[str, Any]) -> None:
    policy = router(f'[[rules]]\nname = "those"\nmodel = "small"\n{bound}\n{REST}')
    assert chosen(policy, chat(HARD), **inside) == ("small", "those")
    assert chosen(policy, chat(HARD), **outside) == ("large", "rest")


def test_rules_are_bounded_by_tokens_at_both_ends() -> None:
    policy = router(
        f'[[rules]]\nname = "mid"\nmodel = "small"\nmin_prompt_tokens = 50\nmax_prompt_tokens = 200\n{REST}'
    )
    rules = [chosen(policy, chat("word " * words))[1] for words in (5, 100, 500)]
    assert rules == ["rest", "mid", "rest"]


def test_a_model_whose_queue_outlasts_the_deadline_is_passed_over() -> None:
    policy, busy = router(SIMPLE + REST), Conditions(waits_ms={"small": 5000})
    assert chosen(policy, chat(EASY), busy, deadline=AT + 4999) == ("large", "rest")
    assert chosen(policy, chat(EASY), busy, deadline=AT + 5000) == ("small", "simple")
    assert chosen(policy, chat(EASY), busy) == ("small", "simple")


def test_a_class_chooses_by_cost_or_by_speed_among_those_able() -> None:
    rules = '[[rules]]\nname = "any"\nmodel = "pool"\n'
    pool = '[classes.pool]\nmodels = ["large", "canary", "small"]\n'
    assert chosen(router(pool + rules), chat(HARD))[0] == "small"
    assert chosen(router(pool + 'prefer = "speed"\n' + rules), chat(HARD))[0] == "canary"
    assert chosen(router(pool + rules), chat("word " * 2000))[0] == "large"


def test_a_split_is_kept_by_key_and_close_to_its_weights() -> None:
    policy = router('[[rules]]\nname = "try"\nsplit = { small = 90, canary = 10 }\n')
    models = [chosen(policy, chat(EASY), key=f"acme:{number}")[0] for number in range(2000)]
    assert models == [chosen(policy, chat(EASY), key=f"acme:{number}")[0] for number in range(2000)]
    assert 150 < Counter(models)["canary"] < 250


def test_a_split_goes_around_a_model_that_is_not_able() -> None:
    policy = router('[[rules]]\nname = "try"\nsplit = { small = 1, large = 1 }\n')
    assert {chosen(policy, chat("word " * 2000), key=f"acme:{n}")[0] for n in range(20)} == {"large"}


@given(st.binary(max_size=20), st.integers(1, 100), st.integers(1, 100), st.integers(1, 100))
def test_a_growing_share_takes_and_never_gives(key: bytes, a: int, b: int, more: int) -> None:
    before, after = pick({"a": a, "b": b}, key), pick({"a": a, "b": b + more}, key)
    assert after in (before, "b")


def test_a_sticky_split_goes_by_conversation() -> None:
    policy = router('[[rules]]\nname = "try"\nsplit = { small = 1, canary = 1 }\n', "sticky = true\n")
    turns = [chat("Begin"), chat("Begin", "go on"), chat("Begin", "go on", "end")]
    for user in map(str, range(20)):
        models = {chosen(policy, turn, key=f"acme:{user}{n}", user=user)[0] for n, turn in enumerate(turns)}
        assert len(models) == 1
    assert len({chosen(policy, turns[0], user=str(n))[0] for n in range(20)}) == 2
    assert opening(turns[0]) == opening(turns[2]) != opening(chat("Other"))


def test_a_conversation_stays_where_its_cache_makes_that_pay() -> None:
    """Large, cached, costs 0.6 a token here, and small, fresh, 1: a short answer is cheaper where the cache is."""
    sticky, loose = router(SIMPLE + REST, "sticky = true\n"), router(SIMPLE + REST)
    after_hard = chat(HARD, EASY, max_tokens=1)
    assert chosen(loose, after_hard) == ("small", "simple")
    assert chosen(sticky, after_hard) == ("large", "sticky")
    assert chosen(sticky, after_hard | {"max_tokens": 1000}) == ("small", "simple")
    assert chosen(sticky, chat(EASY, EASY)) == ("small", "simple")


def test_a_conversation_that_becomes_hard_goes_up_all_the_same() -> None:
    assert chosen(router(SIMPLE + REST, "sticky = true\n"), chat(EASY, HARD)) == ("large", "rest")


def test_who_is_in_no_rule_is_told_to_name_a_model() -> None:
    policy = router('[[rules]]\nname = "those"\nmodel = "small"\ntenants = ["one"]\n')
    assert refused(policy, chat(EASY)) == "no_route"
    assert refused(policy, chat(EASY) | {"model": "auto:best"}) == "no_route"


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)))
def test_odd_bodies_are_read_without_harm(odd: Any) -> None:
    body = {"messages": odd, "tools": odd, "response_format": odd}
    needs(body)
    opening(body)
