"""Fair shares between tenants, in tokens."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from inference.fair_queue import FairQueue

WEIGHTS = {"heavy": 3.0}


def queue() -> FairQueue[str]:
    return FairQueue(lambda tenant: WEIGHTS.get(tenant, 1.0))


def test_one_tenants_ten_thousand_do_not_delay_anothers_one() -> None:
    fair = queue()
    for _ in range(10_000):
        fair.push("big", "big", 100)
    for _ in range(50):
        assert fair.pop() == "big"
    fair.push("small", "small", 100)
    assert "small" in [fair.pop() for _ in range(2)]


def test_tokens_are_shared_by_weight() -> None:
    fair = queue()
    for tenant, cost in (("heavy", 10), ("light", 40)):
        for _ in range(2000):
            fair.push(tenant, tenant, cost)
    had: Counter[str] = Counter()
    for _ in range(1000):
        tenant = fair.pop() or ""
        had[tenant] += 10 if tenant == "heavy" else 40
    assert 2.9 < had["heavy"] / had["light"] < 3.1


def test_what_was_not_used_is_not_saved_up() -> None:
    fair = queue()
    for _ in range(100):
        fair.push("busy", "busy", 10)
    for _ in range(50):
        fair.pop()
    for _ in range(100):
        fair.push("late", "late", 10)
    assert Counter(fair.pop() for _ in range(20))["busy"] >= 9


def test_what_was_taken_beyond_the_estimate_is_paid_later() -> None:
    fair = queue()
    for tenant in ("one", "other"):
        for _ in range(30):
            fair.push(tenant, tenant, 10)
    fair.charge("one", 100)
    assert Counter(fair.pop() for _ in range(10)) == {"other": 10}


def test_within_a_tenant_rank_goes_before_arrival() -> None:
    fair = queue()
    for name, rank in (("late", (0.0, 9.0)), ("soon", (0.0, 1.0)), ("first", (-1.0, 9.0)), ("later", (0.0, 9.0))):
        fair.push("acme", name, 1, rank)
    assert [fair.pop() for _ in range(5)] == ["first", "soon", "late", "later", None]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 100)), min_size=1, max_size=200),
    st.lists(st.booleans(), max_size=400),
)
def test_everything_comes_out_once(pushes: list[tuple[str, int]], pops: list[bool]) -> None:
    fair: FairQueue[int] = FairQueue(lambda _: 1.0)
    out: list[int | None] = []
    choices = iter(pops)
    for number, (tenant, cost) in enumerate(pushes):
        fair.push(tenant, number, cost)
        if next(choices, False):
            out.append(fair.pop())
    while fair:
        out.append(fair.pop())
    assert sorted(number for number in out if number is not None) == list(range(len(pushes)))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 50)), min_size=100, max_size=100))
def test_while_both_want_more_neither_is_ahead_by_more_than_two_requests(pushes: list[tuple[str, int]]) -> None:
    fair: FairQueue[tuple[str, int]] = FairQueue(lambda _: 1.0)
    left = Counter(tenant for tenant, _ in pushes)
    for tenant, cost in pushes:
        fair.push(tenant, (tenant, cost), cost)
    had = {"a": 0, "b": 0}
    while left["a"] and left["b"]:
        found = fair.pop()
        assert found
        had[found[0]] += found[1]
        left[found[0]] -= 1
        assert abs(had["a"] - had["b"]) <= 100


def test_after_clearing_it_is_empty_and_remembers_who_had_how_much() -> None:
    fair = queue()
    for _ in range(10):
        fair.push("one", "one", 10)
    for _ in range(5):
        fair.pop()
    fair.push("other", "other", 10)
    fair.clear()
    assert (len(fair), fair.pop()) == (0, None)
