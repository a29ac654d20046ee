"""From two models' answers to one question, which of them is taken as right."""

from dataclasses import asdict, dataclass

import orjson
import pytest

from millrace.routing.from_shadow import Compared, Told, judge, label

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
