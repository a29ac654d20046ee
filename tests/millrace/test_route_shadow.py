"""From two models' answers to one question, which of them is taken as right."""

from dataclasses import asdict, dataclass
from io import StringIO

import orjson
import pytest
from rich.console import Console

from contracts.catalogue import Catalogue, parse_toml
from contracts.prices import load_prices
from millrace.routing.explanation import as_asked, explain
from millrace.routing.from_shadow import Compared, Told, judge, label
from millrace.routing.policy_view import show_policy
from millrace.routing.view import show_explanation
from streams.route import Router
from tests.support.traffic import AT

BODY = orjson.dumps({"messages": [{"role": "user", "content": "Why?"}]})


@dataclass
class Pair:
    """`small` is what went to the caller unless `by_large`."""

    agreement: str = "other"
    kind: str = "final"
    small_doubt: str = ""
    large_doubt: str = ""
    by_large: bool = False


def compared(pair: Pair) -> Compared:
    small = Told("small", pair.kind, pair.small_doubt)
    large = Told("large", pair.kind, pair.large_doubt)
    told = (small, large) if pair.by_large else (large, small)
    return Compared("faq", *told, pair.agreement)


@pytest.mark.parametrize("by_large", [True, False])
@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (Pair("same"), (True, True)),
        (Pair("other"), (False, True)),
        (Pair("other", "json"), (False, True)),
        (Pair("other", "text"), None),
        (Pair("same", "text"), (True, True)),
        (Pair("", "text"), None),
        (Pair("other", "text", small_doubt="invalid"), (False, True)),
        (Pair("other", large_doubt="refusal"), (True, False)),
        (Pair("same", small_doubt="length", large_doubt="length"), (False, False)),
    ],
)
def test_what_two_answers_tell(pair: Pair, expected: tuple[bool, bool] | None, *, by_large: bool) -> None:
    found = compared(Pair(**asdict(pair) | {"by_large": by_large}))
    assert judge(found, "large") == expected
    row = label(BODY, found, "large")
    assert (row and (row.weak, row.strong)) == expected
    assert row is None or (row.subject, row.prompt) == ("faq", "Why?")


def test_without_the_large_model_among_them_they_tell_nothing() -> None:
    assert judge(compared(Pair("same")), "huge") is None


POLICY = """
version = "t"
[models.small]
version = "2.5"
[models.large]
version = "2.5"
[[rules]]
name = "all"
model = "small"
cascade = { model = "large", on = ["unsure", "length"] }
shadow = { model = "large", share = 1 }
"""


def test_the_policy_and_an_explanation_name_the_models_that_run_too() -> None:
    catalogue, shown = parse_toml(POLICY, "t", Catalogue), StringIO()
    console = Console(file=shown, width=120)
    show_policy("t", catalogue, None, console)
    router, prices = Router(catalogue, load_prices()), load_prices()
    found = explain(as_asked("Why?", AT, 5), router, prices)
    show_explanation(found, catalogue, console)
    said = shown.getvalue()
    assert said.count("unsure, length → large") == said.count("1 shadowed by large") == 2
    assert "shadow run on large" in said
    assert (found.escalates_to, found.shadow) == ("large", "large")
    assert found.document()["shadow"] == "large"
