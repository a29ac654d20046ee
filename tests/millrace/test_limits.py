"""Limits on their compacted topic: set, merged, replaced by a file as a whole, taken away."""

import json
from pathlib import Path

import pytest

from contracts.errors import InvalidRequest, StackError
from contracts.limit_usage import AccountUsage, MeasureUsage
from contracts.limits import Limit, Selector, parse_limits
from contracts.settings import Settings
from millrace.limits import apply_limits, ask_usage, read_limits, remove_limit, set_figures
from millrace.limits_view import parse_count, show_usage
from millrace.ports import free_port
from tests.millrace.test_cli import millrace

ANN = Selector("acme", user="ann")


@pytest.mark.broker
async def test_figures_are_set_one_by_one_and_given_back(settings: Settings) -> None:
    await set_figures(settings, ANN, {"tokens_per_day": 100})
    await set_figures(settings, ANN, {"dollars_per_day": "2.50"})
    both = Limit(tenant="acme", user="ann", tokens_per_day=100, dollars_per_day="2.50")
    assert await read_limits(settings) == {ANN: both}
    await set_figures(settings, ANN, {"tokens_per_day": "default"})
    assert await read_limits(settings) == {ANN: Limit(tenant="acme", user="ann", dollars_per_day="2.50")}
    with pytest.raises(InvalidRequest, match="leaves no figure"):
        await set_figures(settings, ANN, {"dollars_per_day": "default"})
    await remove_limit(settings, ANN)
    assert await read_limits(settings) == {}
    with pytest.raises(InvalidRequest, match="no limit for user ann of tenant acme"):
        await remove_limit(settings, ANN)


@pytest.mark.broker
async def test_a_file_takes_the_place_of_all(settings: Settings) -> None:
    old, same = Limit(tenant="acme", tokens_per_day=1), Limit(user="*", tokens_per_day=2)
    await apply_limits(settings, [old, same])
    new, other = Limit(tenant="acme", tokens_per_day=3), Limit(tenant="bolt", tokens_per_day=4)
    changes = await apply_limits(settings, [new, other, same])
    assert changes == ([other.selector], [new.selector], [])
    assert list(await read_limits(settings)) == [same.selector, new.selector, other.selector]
    assert await apply_limits(settings, []) == ([], [], [same.selector, new.selector, other.selector])
    assert await read_limits(settings) == {}


@pytest.mark.broker
async def test_the_commands(settings: Settings, tmp_path: Path) -> None:
    done = await millrace("limits", "set", "--tenant", "acme", "--tokens-per-day", "200k", settings=settings)
    assert done.out == "set for tenant acme: tokens_per_day = 200000\n", done
    shown = await millrace("limits", "show", "--format", "toml", settings=settings)
    file = tmp_path / "limits.toml"
    file.write_text(shown.out + '\n[[limit]]\nuser = "*"\ntokens_per_day = -1\n')
    refused = await millrace("limits", "apply", file, settings=settings)
    assert (refused.status, refused.err.splitlines()[1].split(":")[0]) == (1, "  line 7")
    assert json.loads((await millrace("limits", "show", "--format", "json", settings=settings)).out) == [
        {"tenant": "acme", "tokens_per_day": 200_000}
    ]
    file.write_text(file.read_text().replace("-1", "5"))
    applied = await millrace("limits", "apply", file, settings=settings)
    assert applied.out == "+ each user of each tenant\n2 limits hold: 1 added, 0 changed, 0 removed\n", applied
    table = (await millrace("limits", "show", settings=settings)).out.splitlines()
    assert [line.split() for line in table[:3]] == [
        ["tenant", "user", "tokens/day"],
        ["each", "each", "5"],
        ["acme", "200,000"],
    ]


async def test_without_a_kafka_one_sentence_says_so() -> None:
    nowhere = Settings(kafka_bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(StackError, match="No Kafka answers"):
        await read_limits(nowhere)
    with pytest.raises(StackError, match="No Kafka answers"):
        await ask_usage(nowhere, Selector("*"))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5", 5),
        ("200_000", 200_000),
        ("1,000", 1000),
        ("200k", 200_000),
        ("1.5M", 1_500_000),
        ("unlimited", "unlimited"),
    ],
)
def test_counts_are_written_as_people_do(text: str, count: int | str) -> None:
    assert parse_count(text) == count


def test_a_part_of_a_token_is_none() -> None:
    with pytest.raises(InvalidRequest, match="no whole number"):
        parse_count("1.5")


def test_usage_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    measures = {
        "tokens_per_day": MeasureUsage(used=46, limit=60, reset_ms=3_214_000),
        "dollars_per_day": MeasureUsage(used=1_000),
    }
    show_usage([AccountUsage(tenant="acme", user="ann", measures=measures)], "table", rows=5, complete=True)
    heading, tokens, money = (line.split() for line in capsys.readouterr().out.splitlines())
    assert heading == ["whose", "limit", "used", "of", "back", "in"]
    assert tokens == ["acme,", "user", "ann", "tokens/day", "46", "60", "━━━━━━━━━━", "77%", "53", "min", "34", "s"]
    assert money == ["$/day", "$0.0001", "–"]


def test_the_documented_file_is_right() -> None:
    text = (Path(__file__).parents[2] / "docs/limits.md").read_text()
    assert len(parse_limits(text.partition("```toml\n")[2].partition("```")[0], "docs/limits.md")) >= 3
