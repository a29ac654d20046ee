"""Looking back: what a policy would have cost, which threshold meets a target; policies in Kafka."""

import asyncio
from io import StringIO
from math import isfinite
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from contracts.catalogue import Catalogue, load_catalogue, parse_toml
from contracts.compacted import Follower, Records
from contracts.errors import ConfigError, StackError
from contracts.policy_record import POLICY_KEY, PolicyRecord
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.cli import app
from millrace.routing.hindsight import Alternative, Hindsight
from millrace.routing.policy_topic import Span, make_policy, publish_policy, read_policy
from millrace.routing.policy_view import show_policy
from millrace.routing.threshold import Calibrator, Sample, find_threshold, reference_of, target_rule
from millrace.routing.traffic import Past, Spent, past_request, past_requests
from streams.complexity import scorer
from streams.policy.case import relative
from streams.policy.running import RunningPolicy
from streams.route import Router
from tests.support.traffic import AT, EASY, HARD, admitted, run_through

SHIPPED = (Path(__file__).parents[2] / "contracts" / "routes.toml").read_text()
TARGETED = SHIPPED.replace("max_complexity = 0.4", "max_complexity = 0.4\nspend_target = 0.5")


def past(content: str = EASY, key: str = "acme:k", model: str = "auto", served: str = "small") -> Past:
    price = load_prices().find(served, "2.5", AT)
    assert price is not None
    return Past(*admitted(content, key, model), AT, Spent(served, 100, 20, 50, price.cost(100, 20, 50)))


def alternative(toml: str) -> Alternative:
    return Alternative(Router(parse_toml(toml, "t", Catalogue), load_prices()), load_prices())


def test_hindsight_prices_the_tokens_that_were_used_on_the_model_that_would_have_been() -> None:
    found = Hindsight(alternative(SHIPPED.replace("max_complexity = 0.4", "max_complexity = 0")))
    found.take(past())
    large = load_prices().find("large", "2.5", AT)
    assert large is not None
    assert found.now == found.best == large.cost(100, 20, 50)
    assert found.then == found.cheap == past().spent.cost_nano
    assert [(move.then, move.now, line.requests) for move, line in found.moves.items()] == [("small", "large", 1)]
    assert found.rules == {"complex": 1}


def test_hindsight_leaves_named_models_alone_and_says_what_is_refused() -> None:
    found = Hindsight(alternative(SHIPPED.replace('name = "complex"\n', 'name = "complex"\nusers = ["ann"]\n')))
    found.take(past(model="large", served="large"))
    found.take(past("word " * 9000))
    assert (found.requests, found.automatic, found.named) == (2, 1, past(served="large").spent.cost_nano)
    assert found.rules == {"refused: no_route": 1}
    assert found.now == 0
    assert orjson.dumps(found.document())


COSTS = st.integers(0, 1000)
SAMPLES = st.lists(st.builds(Sample, st.floats(0, 1), COSTS, COSTS, COSTS), max_size=30)


@given(SAMPLES, st.floats(0.01, 0.99))
def test_the_threshold_is_the_lowest_that_meets_the_target(samples: list[Sample], target: float) -> None:
    def spent(bound: float) -> int:
        return sum(s.within if s.complexity <= bound else s.beyond for s in samples)

    allowed = target * sum(s.best for s in samples)
    found = find_threshold(samples, target)
    bounds = sorted({s.complexity for s in samples})
    meeting = [bound for bound in bounds if spent(bound) <= allowed]
    if found is None:
        assert not meeting
    elif sum(s.beyond for s in samples) <= allowed:
        assert found.max_complexity == 0
    else:
        assert found.max_complexity == meeting[0]


@given(SAMPLES, st.lists(st.none() | st.integers(-5, 1000), min_size=30, max_size=30), st.floats(0.01, 0.99))
def test_at_the_threshold_for_its_price_the_sample_spends_what_the_target_allows(
    samples: list[Sample], extras: list[int | None], target: float
) -> None:
    samples = [sample._replace(extra=extra) for sample, extra in zip(samples, extras, strict=False)]
    reference = reference_of(samples)
    found = find_threshold((sample.for_its_price(reference) for sample in samples), target)
    if found and found.max_complexity:
        bound = found.max_complexity
        passing = [relative(sample.complexity, sample.extra, reference) <= bound for sample in samples]
        spent = sum(s.within if passes else s.beyond for s, passes in zip(samples, passing, strict=True))
        assert spent <= target * sum(sample.best for sample in samples)
        assert isfinite(bound)


def calibrator() -> Calibrator:
    catalogue = parse_toml(TARGETED, "t", Catalogue)
    rule = target_rule(catalogue)
    assert rule is not None
    return Calibrator(catalogue, rule, load_prices(), scorer("learned"))


def test_calibration_spends_what_the_target_allows() -> None:
    measuring = calibrator()
    for number in range(60):
        measuring.take(past(HARD if number % 3 == 0 else EASY, f"acme:{number}"))
    found = measuring.calibrate(AT, AT + 1)
    assert (found.rule, found.requests) == ("simple", 60)
    assert 0.3 < found.spend <= 0.5


def test_the_calibrated_policy_spends_on_its_sample_what_it_promised() -> None:
    """Long questions and short ones, which cost much and little more on the large model."""
    measuring, lengths = calibrator(), (0, 40, 400)
    traffic = [past(f"{HARD if n % 2 else EASY} {'word ' * lengths[n % 3]}{n}", f"acme:{n}") for n in range(60)]
    for one in traffic:
        measuring.take(one)
    found = measuring.calibrate(AT, AT + 1)
    applied = PolicyRecord(toml=TARGETED, calibration=found, applied_at=AT)
    spent = Hindsight(Alternative(Router(applied.catalogue(), load_prices()), load_prices()))
    for one in traffic:
        spent.take(one)
    assert spent.now / spent.best == pytest.approx(found.spend)
    assert found.spend <= 0.5
    assert found.reference_nano is not None


def test_a_calibrated_policy_is_shown_with_what_its_threshold_is_for() -> None:
    measuring, console = calibrator(), Console(width=160, record=True, file=StringIO())
    for number in range(60):
        measuring.take(past(HARD if number % 3 == 0 else EASY, f"acme:{number}"))
    found = measuring.calibrate(AT, AT + 1)
    show_policy("v", PolicyRecord(toml=TARGETED, calibration=found, applied_at=AT).catalogue(), found, console)
    assert found.reference_nano is not None
    assert console.export_text().count(f" at {found.reference_nano / 1e9:.9f} dollars extra") == 2


def test_calibration_says_what_it_lacks() -> None:
    measuring = calibrator()
    with pytest.raises(ConfigError, match="0 requests for `auto` ended"):
        measuring.calibrate(AT, AT + 1)
    for number in range(50):
        measuring.take(past("word " * 9000, f"acme:{number}"))  # too long for the rule, whatever its threshold
    with pytest.raises(ConfigError, match="100% of always-best"):
        measuring.calibrate(AT, AT + 1)


@pytest.mark.broker
async def test_the_log_tells_what_ended_with_a_bill(settings: Settings) -> None:
    await run_through(settings, 40)
    taken: list[Past] = []
    seen = await past_requests(settings, 0, 2**53, taken.append)
    assert (seen.taken, seen.left_out, seen.not_drawn) == (39, 2, 0)
    assert {past.spent.cost_nano for past in taken} == {7}
    drawn: list[Past] = []
    seen = await past_requests(settings, 0, 2**53, drawn.append, most=10)
    assert 0 < seen.taken < 39
    assert seen.taken + seen.not_drawn == 39
    later: list[Past] = []
    assert (await past_requests(settings, 2**53, 2**54, later.append)).taken == 0


@pytest.mark.broker
async def test_a_past_request_is_found_by_its_key(settings: Settings) -> None:
    await run_through(settings, 3)
    asked = await past_request(settings, "acme:k1", 0, 2**53)
    assert (asked.request.request_key, HARD.encode() in asked.body) == ("acme:k1", True)
    with pytest.raises(StackError, match="acme:k9"):
        await past_request(settings, "acme:k9", 0, 2**53)


@pytest.mark.broker
async def test_a_policy_is_calibrated_published_and_followed(settings: Settings) -> None:
    await run_through(settings, 120)
    policy, changed = RunningPolicy(load_catalogue(), load_prices()), asyncio.Event()

    def apply(records: Records) -> None:
        policy.apply(records)
        changed.set()

    async with Follower(settings, Topics.of(settings).routes, apply), asyncio.timeout(30):
        assert await read_policy(settings) is None
        record = await make_policy(settings, TARGETED, "t", None, Span(0, 2**53))
        assert record.calibration is not None
        assert record.calibration.requests == 119
        await publish_policy(settings, record)
        await changed.wait()
        assert policy.version == Router(record.catalogue(), load_prices()).version
        assert await read_policy(settings) == record
        changed.clear()
        await publish_policy(settings, None)
        await changed.wait()
        assert policy.version == Router(load_catalogue(), load_prices()).version
    assert await read_policy(settings) is None


@pytest.mark.broker
async def test_a_model_without_topics_is_refused(settings: Settings) -> None:
    with pytest.raises(StackError, match=r"no topic .*work\.new\.interactive"):
        await make_policy(settings, SHIPPED.replace("[models.small]", "[models.new]\n[models.small]"), "t", None, None)


@pytest.mark.broker
async def test_a_follower_reads_what_was_there_before_it(settings: Settings) -> None:
    await publish_policy(settings, PolicyRecord(toml=SHIPPED, applied_at=1))
    heard: list[bytes | None] = []
    async with Follower(settings, Topics.of(settings).routes, lambda records: heard.extend(key for key, _ in records)):
        assert heard == [POLICY_KEY]


async def test_a_policy_that_no_topic_would_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="Kafka's topics take"):
        await publish_policy(Settings(max_body_bytes=1024), PolicyRecord(toml=SHIPPED, applied_at=1))


def test_explain_takes_a_prompt_or_a_key_and_its_tenant() -> None:
    for arguments in ([], ["Why?", "--key", "k"], ["--key", "k"]):
        result = CliRunner().invoke(app, ["route", "explain", *arguments])
        assert isinstance(result.exception, ConfigError)


def test_a_wrong_file_is_refused_with_its_line_before_anything_else(tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(SHIPPED.replace("max_complexity = 0.4", "max_complexity = 4"))
    for command in (["apply", str(file)], ["replay", "--policy", str(file)]):
        result = CliRunner().invoke(app, ["route", *command, "--data-dir", str(tmp_path)])
        assert isinstance(result.exception, ConfigError)
        assert "line 29: rules.0.max_complexity" in str(result.exception)
