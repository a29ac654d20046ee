import pytest

from ingress.preferences import Preferences, parse_prefer


@pytest.mark.parametrize(
    ("header", "means"),
    [
        ("", Preferences()),
        ("respond-async", Preferences(respond_async=True)),
        ("Respond-Async, Wait=10", Preferences(respond_async=True, wait_seconds=10)),
        ("wait=10", Preferences(wait_seconds=10)),
        (' wait="10" ; foo=bar , respond-async', Preferences(respond_async=True, wait_seconds=10)),
        ("wait=0", Preferences(wait_seconds=0)),
        ("wait=61", Preferences(wait_seconds=60)),
        ("wait=-1", Preferences()),
        ("wait=1.5", Preferences()),
        ("wait", Preferences()),
        ("wait=5, wait=7", Preferences(wait_seconds=5)),
        ("return=minimal; x, handling=lenient", Preferences()),
        (",,;=\x00", Preferences()),
    ],
)
def test_what_is_understood(header: str, means: Preferences) -> None:
    assert parse_prefer(header, 60.0) == means


def test_what_was_applied_is_said() -> None:
    assert Preferences(respond_async=True, wait_seconds=3).applied() == "respond-async, wait=3"
    assert Preferences().applied() == ""
