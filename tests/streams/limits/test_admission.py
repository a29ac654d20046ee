"""The pure part: whether a request fits, and when it would."""

from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.limits import Limit
from contracts.rate_limits import read_rate_limits
from streams.limits.account import NOTHING, TENANT, Account, Need, Settlement, Whose
from streams.limits.admission import Place, refresh, shortage, take, tell
from streams.limits.calendar import DAY_MS, day_of
from streams.limits.measures import MEASURES, is_empty
from streams.limits.policy import Policy
from tests.streams.world import START

DAY = DAY_MS


@dataclass
class Desk:
    """One user of one tenant, under limits, with a clock."""

    policy: Policy
    now: int = START
    accounts: dict[Whose, Account] = field(default_factory=dict)

    @classmethod
    def under(cls, *limits: Limit) -> "Desk":
        policy = Policy(Limit(tokens_per_minute="unlimited"))
        policy.apply([(limit.selector.encode(), limit.encode()) for limit in limits])
        return cls(policy)

    def places(self) -> list[Place]:
        holding = self.policy.holding("acme", "ann", "", "")
        places = [Place(self.accounts.setdefault(held.whose, Account()), held) for held in holding]
        refresh(places, self.now)
        return places

    def wait_ms(self, need: Need) -> int | None:
        """0: it fits; None: it never will."""
        short = shortage(self.places(), need, self.now)
        return short.wait_ms if short else 0

    def ask(self, need: Need) -> bool:
        places = self.places()
        if shortage(places, need, self.now):
            return False
        take(places, need)
        return True

    def settle(self, reserved: Need, used: Need, began: int) -> None:
        for account, held in self.places():
            for measure, _ in held.counted:
                measure.correct(account, Settlement(reserved, used, began, self.now))

    def used(self, name: str, whose: Whose = TENANT) -> int:
        [measure] = [measure for measure in MEASURES if measure.name == name]
        return measure.amount(self.accounts[whose])


def random_limits(random: Random) -> list[Limit]:
    def figures() -> dict[str, int | str]:
        names = random.sample(
            ["tokens_per_minute", "tokens_per_day", "requests_per_minute", "dollars_per_day", "dollars_per_month"], 2
        )
        return {
            name: f"0.{random.randint(1, 9)}" if name.startswith("dollars") else random.randint(3, 400)
            for name in names
        }

    return [Limit.model_validate({"tenant": "acme"} | figures()), Limit.model_validate({"user": "*"} | figures())]


def random_need(random: Random) -> Need:
    return Need(random.randint(1, 100), random.randint(0, 200_000_000))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_retry_at_that_moment_passes_and_a_millisecond_sooner_it_doesnt(seed: int) -> None:
    random = Random(seed)
    desk = Desk.under(*random_limits(random))
    running: list[tuple[Need, int]] = []
    for _ in range(30):
        desk.now += random.choice([0, 0, 1, 700, 20_000, DAY // 3])
        need = random_need(random)
        if desk.ask(need):
            running.append((need, desk.now))
        elif wait := desk.wait_ms(need):
            desk.now += wait - 1
            assert not desk.ask(need)
            desk.now += 1
            assert desk.ask(need)
            running.append((need, desk.now))
        else:
            assert desk.wait_ms(need) is None
        if running and random.random() < 0.3:
            reserved, began = running.pop(random.randrange(len(running)))
            desk.settle(reserved, Need(random.randint(0, reserved.tokens), reserved.nano // 2), began)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_day_uses_more_than_its_limit(seed: int) -> None:
    """Whatever ends when, as long as nothing uses more than it reserved."""
    random = Random(seed)
    limit = random.randint(50, 500)
    desk = Desk.under(Limit(tenant="acme", tokens_per_day=limit, concurrent_requests=5))
    running: list[tuple[Need, int]] = []
    used: dict[int, int] = {}
    for _ in range(60):
        desk.now += random.choice([0, 0, 1000, DAY // 5])
        need = random_need(random)
        if desk.ask(need):
            running.append((need, desk.now))
        assert len(running) <= 5
        if running and random.random() < 0.5:
            reserved, began = running.pop(random.randrange(len(running)))
            real = Need(random.randint(0, reserved.tokens), 0)
            desk.settle(reserved, real, began)
            used[day_of(began)] = used.get(day_of(began), 0) + real.tokens
    for reserved, began in running:
        desk.settle(reserved, reserved, began)
        used[day_of(began)] = used.get(day_of(began), 0) + reserved.tokens
    assert all(tokens <= limit for tokens in used.values())
    assert desk.used("concurrent_requests") == 0


def test_two_hundred_at_once_against_a_budget_for_37() -> None:
    need = Need(100, 3_000_000)
    desk = Desk.under(Limit(tenant="acme", dollars_per_day="0.111"))
    assert sum(desk.ask(need) for _ in range(200)) == 37
    assert desk.used("dollars_per_day") == 111_000_000


def test_what_ends_after_midnight_belongs_to_the_day_before() -> None:
    desk = Desk.under(Limit(tenant="acme", tokens_per_day=100))
    began = desk.now
    assert desk.ask(Need(100, 0))
    desk.now += DAY
    assert desk.ask(Need(90, 0))
    desk.settle(Need(100, 0), Need(5, 0), began)
    assert desk.used("tokens_per_day") == 90


def test_a_limit_of_zero_lets_nothing_through_ever() -> None:
    assert Desk.under(Limit(tenant="acme", requests_per_minute=0)).wait_ms(Need(1, 0)) is None


def test_a_lowered_limit_counts_what_was_used_under_the_higher_one() -> None:
    desk = Desk.under(Limit(tenant="acme", tokens_per_minute=1000))
    assert desk.ask(Need(600, 0))
    lower = Limit(tenant="acme", tokens_per_minute=600)
    desk.policy.apply([(lower.selector.encode(), lower.encode())])
    assert desk.wait_ms(Need(10, 0)) == 1000
    desk.now += 1000
    assert desk.ask(Need(10, 0))


def test_the_wait_for_a_run_to_end_follows_how_long_they_take() -> None:
    desk = Desk.under(Limit(tenant="acme", concurrent_requests=2))
    need = Need(10, 0)
    for _ in range(50):
        began = desk.now
        assert desk.ask(need)
        desk.now += 8000
        desk.settle(need, need, began)
    assert desk.ask(need)
    assert desk.ask(need)
    wait = desk.wait_ms(need)
    assert wait is not None
    assert 3500 <= wait <= 4000


def test_the_tightest_limit_is_told() -> None:
    desk = Desk.under(
        Limit(tenant="acme", tokens_per_minute=1000, requests_per_minute=10), Limit(user="*", tokens_per_day=300)
    )
    assert desk.ask(Need(100, 0))
    told = read_rate_limits(tell(desk.places(), desk.now))
    assert (told["tokens"].limit, told["tokens"].remaining) == (300, 200)
    assert (told["requests"].limit, told["requests"].remaining, told["requests"].reset_ms) == (10, 9, 6000)


def test_an_account_that_says_nothing_any_more_is_empty() -> None:
    desk = Desk.under(Limit(tenant="acme", dollars_per_month="9"), Limit(user="*", tokens_per_day=900))
    assert is_empty(Account(), desk.now)
    assert desk.ask(Need(100, 7))
    tenant, user = desk.accounts[Whose()], desk.accounts[Whose("ann")]
    assert not is_empty(user, desk.now)
    assert is_empty(user, desk.now + DAY)
    assert not is_empty(tenant, desk.now + DAY)
    desk.settle(Need(100, 7), NOTHING, desk.now)
    assert is_empty(user, desk.now)
