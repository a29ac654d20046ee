"""A file of limits is taken whole or not at all, and what is wrong with it is said with its line."""

import pytest
from pydantic import ValidationError

from contracts.errors import ConfigError
from contracts.limits import Limit, Selector, parse_limits, write_limits

GOOD = """\
[[limit]]                  # each tenant
tokens_per_minute = 2_000_000
dollars_per_month = "500"

[[limit]]
user = "*"
tokens_per_day = 200_000

[[limit]]
tenant = "acme"
user = "ann"
feature = "support \\"chat\\""
tokens_per_day = "unlimited"
concurrent_requests = 4
"""


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parse_limits(text, "limits.toml")
    first, *reasons = str(raised.value).splitlines()
    assert first == "limits.toml is refused, and nothing was changed:"
    return [reason.strip() for reason in reasons]


def test_a_good_file() -> None:
    tenants, users, ann = parse_limits(GOOD, "limits.toml")
    assert tenants == Limit(tokens_per_minute=2_000_000, dollars_per_month="500")
    assert tenants.dollars_per_month == 500_000_000_000
    assert users.selector == Selector("*", user="*")
    assert ann.figures() == {"tokens_per_day": "unlimited", "concurrent_requests": 4}


def test_what_is_written_is_read_again() -> None:
    limits = parse_limits(GOOD, "limits.toml")
    assert parse_limits(write_limits(limits), "again.toml") == limits


def test_a_record_is_read_again() -> None:
    for limit in parse_limits(GOOD, "limits.toml"):
        assert Limit.model_validate_json(limit.encode()) == limit
        assert Selector.decode(limit.selector.encode()) == limit.selector


def test_an_empty_file_sets_nothing() -> None:
    assert parse_limits("# none\n", "limits.toml") == []


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[[limit]]\ntokens_per_day = \n", 2, "Invalid value"),
        ("[[limit]]\ntokens_per_day = -1\n", 2, "tokens_per_day: a whole number, 0 or more"),
        ("[[limit]]\ntokens_per_day = 1.5\n", 2, "tokens_per_day: a whole number, 0 or more"),
        ("[[limit]]\ntokens_per_day = true\n", 2, "tokens_per_day: a whole number, 0 or more"),
        ('[[limit]]\ntenant = "a b"\ntokens_per_day = 1\n', 2, "tenant: A tenant's name is"),
        ("[[limit]]\ntokens_per_day = 1\n\n[[limit]]\nuser = 5\ntokens_per_day = 2\n", 5, "user: Input should be"),
        ("[[limit]]\n\n[[limit]]\ntoken_per_day = 1\n", 4, "token_per_day: there is no such figure; there are"),
        ("[[limit]]\ndollars_per_day = 2.5\n", 2, 'dollars_per_day: write the amount as a string, "2.50"'),
        ('[[limit]]\ndollars_per_day = "two"\n', 2, "dollars_per_day: an amount is a number of dollars"),
        ('[[limit]]\ndollars_per_day = "0.0000000001"\n', 2, "dollars_per_day: an amount is 0 to"),
        ('\n[[limit]]\ntenant = "acme"\n', 2, "the limit has no figure: give one of tokens_per_minute"),
        ("[[limits]]\ntokens_per_day = 1\n", 1, "limits: it must be [[limit]]"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, reason: str) -> None:
    assert any(found.startswith(f"line {line}: {reason}") for found in refused(text)), refused(text)


def test_every_error_is_said_at_once() -> None:
    wrong = "[[limit]]\ntokens_per_day = -1\n[[limit]]\ntokens_per_minute = -1\n"
    assert [reason.partition(":")[0] for reason in refused(wrong)] == ["line 2", "line 4"]


def test_two_limits_for_the_same_callers_are_one_too_many() -> None:
    [reason] = refused("[[limit]]\ntokens_per_day = 1\n\n[[limit]]\ntokens_per_minute = 1\n")
    assert reason == "line 4: there is a limit for each tenant above; join them"


def test_a_selector_reads_as_a_person_says_it() -> None:
    assert str(Selector("acme", user="ann", feature="chat")) == "feature chat of user ann of tenant acme"
    assert str(Selector("*", user="*")) == "each user of each tenant"
    assert str(Selector("acme", user="", api_key="key-1")) == "API key key-1 of no user of tenant acme"


def test_a_limit_without_a_figure_is_none() -> None:
    with pytest.raises(ValidationError, match="no figure"):
        Limit(tenant="acme")
