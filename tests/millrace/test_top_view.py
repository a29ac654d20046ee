"""A frame of `millrace top`, from figures that are known."""

import io
from typing import Any

import pytest
from rich.console import Console

from contracts.limit_usage import AccountUsage, MeasureUsage
from millrace.top_view import Frame, render

NODE = {"rate": 12.34, "lag": 7, "behind_s": 0.6, "p99_ms": 18.0, "errors": None, "error_share": 0.0}
CALM = {"tone": "", "why": ""}


def node(id_: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, **NODE, **CALM, **more}


def lane(model: str, name: str, **more: Any) -> dict[str, Any]:
    return node(f"work:{model}:{name}", model=model, lane=name, run_p99_ms=900.0, ttft_p99_ms=120.0, **more)


def worker(name: str, model: str, **more: Any) -> dict[str, Any]:
    told = {"running": 3, "room": 256, "waiting": 2, "kv_used": 0.25, "ended": 40, "failed": 1}
    pace = {"prefill_tokens_per_second": 1500.0, "decode_tokens_per_second": 250.0}
    return {"worker": name, "model": model, **told, **pace, **CALM, **more}


def seen(**more: Any) -> dict[str, Any]:
    stages = [node(name) for name in ("ingress", "dedupe", "meter")]
    lanes = [lane("small", "interactive", lag=31, errors=2), lane("small", "batch", lag=90_000)]
    rest = [node("workers"), node("settle"), node("sink", lag=1_500_000), node("dead-letters", rate=0.0, lag=None)]
    return {
        "at": 1_790_000_000_000,
        "window_seconds": 60,
        "problem": "",
        "nodes": [*stages, *lanes, *rest],
        "workers": [worker("host-1", "small"), worker("host-2", "small", tone="bad", why="silent for 9 s")],
        "ended": {"ended": 100, "succeeded": 98, "failed": 2, "expired": 0},
        "ttft_p99_ms": 120.0,
        "total_p99_ms": 12_345.0,
        "completion_tokens": 6000,
        **more,
    }


def account(tenant: str, used: int) -> AccountUsage:
    return AccountUsage(
        tenant=tenant, measures={"tokens_per_day": MeasureUsage(used=used, limit=100, reset_ms=7_200_000)}
    )


def shown(frame: Frame, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(render(frame, width))
    return captured.get().splitlines()


def line_of(lines: list[str], first: str) -> list[str]:
    return next(line.split() for line in lines if line.startswith(first + " "))


def test_each_figure_is_in_its_place() -> None:
    lines = shown(Frame(seen(), [account("acme", 85), account("globex", 10)]), 120)
    assert "12.3 requests/s   100 tokens/s   first token p99 120 ms   whole p99 12.3 s" in lines
    assert "last 60 s: 98 succeeded, 2 failed" in lines
    assert line_of(lines, "dedupe") == ["dedupe", "12.3", "7", "0.6", "s", "18", "ms", "–"]
    assert line_of(lines, "sink")[2] == "1.5M"
    assert line_of(lines, "small") == ["small", "31", "90k", "4", "6/512", "3000", "500", "18", "ms", "120", "ms", "2"]
    assert line_of(lines, "host-1") == ["host-1", "small", "3/256", "2", "25%", "250", "40", "1"]
    assert "silent for 9 s" in next(line for line in lines if line.startswith("host-2"))
    assert line_of(lines, "acme")[:2] == ["acme", "tokens/day"]
    assert line_of(lines, "acme")[3:5] == ["85%", "2"]
    assert not any(line.startswith("globex") for line in lines)


@pytest.mark.parametrize("width", [40, 45, 60, 80, 100, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int) -> None:
    long = worker("a-host-with-a-very-long-name-of-its-own-4711-ab12", "small")
    lines = shown(Frame(seen(workers=[long]), [account("acme", 85)]), width)
    assert max(map(len, lines)) <= width
    assert line_of(lines, "dedupe")[:3] == ["dedupe", "12.3", "7"]
    headings = [line for line in lines if line.startswith(("stage ", "model ", "worker "))]
    assert len(headings) == 3
    assert not any("…" in heading for heading in headings)


def test_what_runs_is_no_alarm() -> None:
    """A lane's lag has it as well; only what waits, or fails, hurts."""
    hurts = lane("small", "interactive", tone="bad", why="12 s of work wait")
    for waiting, told in ((0, False), (5, True)):
        lines = shown(
            Frame(seen(nodes=[hurts, lane("small", "batch")], workers=[worker("one", "small", waiting=waiting)])), 160
        )
        assert any("12 s of work wait" in line for line in lines) == told


def test_what_is_not_known_is_said() -> None:
    empty = {"rate": None, "lag": None, "behind_s": None, "p99_ms": None}
    nothing = seen(
        nodes=[node("ingress", **empty), node("dedupe", **empty)],
        workers=[],
        problem="Kafka doesn't answer.",
        ttft_p99_ms=None,
        total_p99_ms=None,
    )
    lines = shown(Frame(nothing), 80)
    assert "Kafka doesn't answer." in lines
    assert "No worker is known." in lines
    assert line_of(lines, "dedupe") == ["dedupe", "–", "–", "–", "–", "–"]
