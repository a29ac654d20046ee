"""Limits in the stream: decided on the log, exact under crashes, replays and changes, told with the answer."""

import orjson
import pytest

from contracts.bodies import describe
from contracts.catalogue import load_catalogue
from contracts.completion import Completion
from contracts.headers import RawHeaders
from contracts.limit_usage import UsageAnswer, UsageQuestion
from contracts.limits import Limit
from contracts.outcomes import Outcome
from contracts.prices import load_prices
from contracts.rate_limits import read_rate_limits
from contracts.settings import Settings
from streams.limits.calendar import DAY_MS
from streams.records import Output
from tests.streams.actors import ask, body, finish, frames, text, work_records
from tests.streams.world import START, Produced, World

PROMPT = describe(body()).digest.prompt_estimate
NEED = PROMPT + 10  # tokens that one request reserves
PRICE = load_prices().find("small", "2.5", START)
TTL_MS = 60_000


def world_under(*limits: Limit) -> World:
    world = World(Settings(request_partitions=2, tenant_partitions=1, reservation_ttl_seconds=TTL_MS // 1000))
    change(world, *limits)
    return world


def change(world: World, *limits: Limit) -> None:
    world.policy.apply([(limit.selector.encode(), limit.encode()) for limit in limits])


def ask_many(world: World, count: int, prefix: str = "k", headers: RawHeaders | None = None, **fields: object) -> int:
    """How many of them were let through."""
    before = len(work_records(world))
    for number in range(count):
        ask(world, f"acme:{prefix}{number}", body(**fields), headers=headers)
    world.settle_down()
    return len(work_records(world)) - before


def finish_all(world: World, outcome: Outcome = Outcome.SUCCEEDED, prompt: int = PROMPT, answer: int = 10) -> None:
    ended = {text(record, "claim") for record in world.records("completions")}
    for work in work_records(world):
        if text(work, "claim") not in ended:
            finish(world, work, outcome, prompt_tokens=prompt, completion_tokens=answer)
    world.settle_down()


def usage(world: World, **of: str) -> dict[str, int]:
    """What is used, by measure, of the one account that is asked for."""
    question = UsageQuestion(ce_id="q", reply_to="responses/0", **of)
    world.produce(Output("admitted", b"", b"", question.to_headers(), 0))
    world.settle_down()
    told = UsageAnswer.model_validate_json(frames(world)[-1].value)
    return {name: measure.used for name, measure in told.accounts[0].measures.items()} if told.accounts else {}


def refusal(frame: Produced) -> dict[str, str]:
    error: dict[str, str] = orjson.loads(frame.value)["error"]
    return error


def test_a_budget_for_37_lets_37_of_200_through_and_is_never_passed() -> None:
    assert PRICE is not None
    each = PRICE.cost(PROMPT, 0, 10)
    world = world_under(Limit(tenant="acme", dollars_per_month=f"{each * 37 / 10**9:.9f}"))
    assert ask_many(world, 200) == 37
    finish_all(world)
    assert ask_many(world, 5, "more") == 0
    assert usage(world, tenant="acme")["dollars_per_month"] == each * 37


def test_replays_and_duplicates_consume_nothing() -> None:
    world = world_under(Limit(tenant="acme", tokens_per_day=NEED * 10, requests_per_minute=10))
    ask_many(world, 3)
    before = usage(world, tenant="acme")
    ask_many(world, 3)  # duplicates of what runs
    world.positions["admitted", 0] = 0
    world.settle_down()
    assert usage(world, tenant="acme") == before
    finish_all(world)
    ask_many(world, 3)  # and of what has ended
    assert usage(world, tenant="acme") == before | {"concurrent_requests": 0}


def test_each_user_has_a_count_of_its_own() -> None:
    world = world_under(Limit(user="*", tokens_per_day=NEED * 2))
    assert ask_many(world, 5, "a", [("user", b"ann")]) == 2
    assert ask_many(world, 5, "b", [("user", b"ben")]) == 2
    assert ask_many(world, 5, "c") == 5  # without a name


def test_the_tightest_of_several_wins_and_is_named() -> None:
    world = world_under(
        Limit(tenant="acme", tokens_per_day=NEED * 5),
        Limit(tenant="acme", feature="chat", concurrent_requests=3),
        Limit(api_key="key-1", requests_per_minute=4),
    )
    assert ask_many(world, 6, headers=[("feature", b"chat"), ("api-key-id", b"key-1")]) == 3
    assert refusal(frames(world)[-1])["param"] == "concurrent_requests"
    finish_all(world)
    assert ask_many(world, 6, "more", [("feature", b"chat"), ("api-key-id", b"key-1")]) == 1
    assert refusal(frames(world)[-1])["message"].startswith(
        "Rate limit reached for API key key-1 of tenant acme: 4 req"
    )


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.EXPIRED, Outcome.CANCELLED])
def test_whatever_becomes_of_it_its_place_is_free_again(outcome: Outcome) -> None:
    world = world_under(Limit(tenant="acme", concurrent_requests=2, tokens_per_day=NEED * 3))
    assert ask_many(world, 3) == 2
    finish_all(world, outcome, answer=0)
    left = usage(world, tenant="acme")
    assert left["concurrent_requests"] == 0
    assert left["tokens_per_day"] == (PROMPT * 2 if outcome is Outcome.CANCELLED else 0)


def test_what_is_lost_frees_its_place_in_the_end() -> None:
    world = world_under(Limit(tenant="acme", concurrent_requests=2))
    assert ask_many(world, 3) == 2
    world.now += TTL_MS
    assert ask_many(world, 3, "later") == 2


def test_a_change_holds_for_the_next_request_and_touches_none_before() -> None:
    world = world_under(Limit(tenant="acme", tokens_per_day=NEED * 4))
    assert ask_many(world, 3) == 3
    change(world, Limit(tenant="acme", tokens_per_day=NEED * 2))
    assert ask_many(world, 1, "more") == 0
    world.positions["admitted", 0] = 0
    world.settle_down()  # a replay under the new limit: what was let through goes on again, the same
    assert len({(work.key, work.value, str(work.headers)) for work in work_records(world)}) == 3
    assert len(work_records(world)) == 6
    change(world, Limit(tenant="acme", tokens_per_day=NEED * 5))
    assert ask_many(world, 3, "again") == 2


def test_a_request_that_can_never_fit_is_400() -> None:
    world = world_under(Limit(user="*", dollars_per_day="0.000001"))
    assert ask_many(world, 1, headers=[("user", b"ann")]) == 0
    [frame] = frames(world)
    assert (text(frame, "status"), text(frame, "retry-after-ms")) == ("400", "")
    assert refusal(frame)["code"] == "request_exceeds_limit"
    assert "which can never fit the limit of $0.000001 per day of user ann of tenant acme" in refusal(frame)["message"]


def test_the_answers_frame_tells_the_limits_and_a_replay_doesnt() -> None:
    world = world_under(Limit(tenant="acme", tokens_per_minute=1000, requests_per_minute=5))
    ask_many(world, 1)
    [work] = work_records(world)
    told = read_rate_limits(text(work, "rate-limits"))
    assert (told["tokens"].limit, told["tokens"].remaining) == (1000, 1000 - NEED)
    assert (told["requests"].limit, told["requests"].remaining) == (5, 4)
    finish_all(world)
    assert text(frames(world)[-1], "rate-limits") == text(work, "rate-limits")
    ask_many(world, 1)
    assert (text(frames(world)[-1], "replayed"), text(frames(world)[-1], "rate-limits")) == ("1", "")


def test_a_refusal_tells_them_too() -> None:
    world = world_under(Limit(tenant="acme", requests_per_minute=1))
    ask_many(world, 2)
    told = read_rate_limits(text(frames(world)[-1], "rate-limits"))
    assert (told["requests"].limit, told["requests"].remaining) == (1, 0)
    assert text(frames(world)[-1], "retry-after-ms") == "60000"


def test_a_prompts_estimate_follows_what_prompts_really_have() -> None:
    world = world_under(Limit(tenant="acme", tokens_per_day=10**6))
    for number in range(20):
        ask_many(world, 1, f"k{number}-")
        finish_all(world, prompt=PROMPT * 3)
    ask_many(world, 1, "next")
    reserved = int(text(work_records(world)[-1], "reserved-tokens"))
    assert PROMPT * 3 + 10 <= reserved <= PROMPT * 4 + 10


def test_an_answer_without_a_cap_is_expected_to_be_as_long_as_others() -> None:
    world = world_under(Limit(tenant="acme", tokens_per_day=10**6))
    for number in range(20):
        ask_many(world, 1, f"k{number}-", max_tokens=None)
        finish_all(world, answer=40 + number % 3)
    ask_many(world, 1, "next", max_tokens=None)
    reserved = int(text(work_records(world)[-1], "reserved-tokens"))
    assert PROMPT + 40 <= reserved <= PROMPT + 60 < PROMPT + load_catalogue().models["small"].default_output_tokens


def test_what_was_cancelled_before_it_came_to_the_meter_isnt_let_through() -> None:
    world = world_under()
    ask(world, "acme:k1")
    while (flying := world.take("dedupe", 0, 1) or world.take("dedupe", 1, 1)) is not None:
        world.land(flying)
    [admitted] = world.records("admitted")
    ended = Completion(outcome=Outcome.CANCELLED, status=499, finished_at=world.now)
    world.produce(Output("completions", b"acme:k1", b"{}", [*admitted.headers, *ended.to_headers()]))
    for stage, partition in (("settle", 0), ("settle", 1), ("tally", 0)):
        if flying := world.take(stage, partition, 1):
            world.land(flying)
    world.settle_down()
    assert work_records(world) == []


def test_what_is_used_is_told_for_all_or_for_one() -> None:
    world = world_under(Limit(user="*", tokens_per_day=NEED * 4))
    ask_many(world, 3, "a", [("user", b"ann")])
    assert usage(world, tenant="acme", user="ann") == {"tokens_per_day": NEED * 3}
    question = UsageQuestion(ce_id="all", reply_to="responses/0")
    world.produce(Output("admitted", b"", b"", question.to_headers(), 0))
    world.settle_down()
    answer = frames(world)[-1]
    told = UsageAnswer.model_validate_json(answer.value)
    assert (text(answer, "kind"), text(answer, "in-reply-to"), told.complete) == ("state", "all", True)
    assert [(account.tenant, account.user, account.share) for account in told.accounts[:1]] == [("acme", "ann", 0.75)]
    assert told.accounts[1].measures["concurrent_requests"].used == 3


def test_counts_of_a_day_are_forgotten_when_it_is_over() -> None:
    world = world_under(Limit(user="*", tokens_per_day=NEED * 4))
    for number in range(100):
        ask_many(world, 1, f"k{number}-", [("user", f"user-{number}".encode())])
    finish_all(world)
    table = world.tables["tenants", 0]
    assert sum(key.startswith(b"u\0") for key in table.entries) == 100
    world.now += DAY_MS
    for number in range(10):
        world.now += TTL_MS
        ask_many(world, 1, f"later{number}-")
    assert not any(key.startswith(b"u\0") for key in table.entries)


def test_state_of_an_older_release_is_read() -> None:
    """It had one bucket a tenant, and reservations of tokens alone."""
    world = world_under()
    ask_many(world, 1)
    table = world.tables["tenants", 0].entries
    [key] = [key for key in table if key.startswith(b"r\0")]
    table[b"t\0acme"] = b"\x01" + orjson.dumps([600_000, world.now, 0, -1, 0, "", [1, 2, 3, 4, 5]])
    table[key] = b"\x01" + orjson.dumps([0, NEED, world.now, world.now + TTL_MS, 0])
    world.positions["admitted", 0] = 0
    world.settle_down()
    first, again = work_records(world)
    assert (again.value, text(again, "reserved-tokens")) == (first.value, str(NEED))
    finish_all(world)
    assert usage(world, tenant="acme") == {}
    assert ask_many(world, 1, "more") == 1
