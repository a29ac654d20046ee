"""One frame of `millrace top`: stages, models, workers and limits, in the width that there is. Pure."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from contracts.limit_usage import AccountUsage
from millrace.limits_view import HEADINGS, bar, duration

Line = Mapping[str, Any]
_TONES = {"bad": "bold red", "warn": "yellow", "": ""}
_NEAR = 0.5  # of a limit
_MOST_LIMITS = 6
_STAGES = ("ingress", "dedupe", "meter", "workers", "settle", "sink", "dead-letters")
_UNKNOWN = "–"
_LEAST = 2  # columns


@dataclass(frozen=True, slots=True)
class Frame:
    """What there is to show: the dashboard's flow, and the accounts nearest to their limits."""

    seen: Line
    accounts: Sequence[AccountUsage] = ()
    title: str = "millrace"


class Cell(NamedTuple):
    """A column: its heading, what it says of a line, and the width of terminal from which on it is there."""

    name: str
    say: Callable[[Line], str | Text]
    from_width: int = 0
    right: bool = True


def render(frame: Frame, width: int) -> RenderableType:
    seen = frame.seen
    parts: list[RenderableType] = [_header(frame, width)]
    if seen["problem"]:
        parts.append(Text(seen["problem"], style=_TONES["bad"]))
    parts.append(_table(_STAGE, [node for name in _STAGES for node in seen["nodes"] if node["id"] == name], width))
    parts.append(_table(_MODEL, _models(seen), width))
    parts.append(_table(_WORKER, seen["workers"], width) if seen["workers"] else Text("No worker is known.", "yellow"))
    near = [account for account in frame.accounts if account.share >= _NEAR][:_MOST_LIMITS]
    if near:
        parts.append(_table(_LIMIT, [_limit(account) for account in near], width))
    return Group(*(piece for part in parts for piece in (part, "")))


def _header(frame: Frame, width: int) -> Text:
    seen = frame.seen
    at = datetime.fromtimestamp(seen["at"] / 1000, UTC).strftime("%H:%M:%S")
    rate = next((node["rate"] for node in seen["nodes"] if node["id"] == "ingress"), None)
    tokens = seen["completion_tokens"] / seen["window_seconds"]
    told = [f"{_rate(rate)} requests/s", f"{_count(round(tokens))} tokens/s"]
    told += [f"first token p99 {_ms(seen['ttft_p99_ms'])}", f"whole p99 {_ms(seen['total_p99_ms'])}"]
    ended = [f"{_count(n)} {name}" for name, n in seen["ended"].items() if name != "ended" and n]
    text = Text(overflow="fold").append(frame.title, "bold").append(f"  {at} UTC", "dim")
    for number, part in enumerate(told):
        narrow = width < _WIDE and number == len(told) // 2
        text.append("\n" if number == 0 or narrow else "   ").append(part)
    if ended:
        text.append(f"\nlast {seen['window_seconds']} s: {', '.join(ended)}", "dim")
    return text


_WIDE = 80


def _table(columns: Sequence[Cell], lines: Sequence[Line], width: int) -> Table:
    """What matters least goes first when it doesn't fit."""
    shown = [column for column in columns if width >= column.from_width]
    while _wide(table := _grid(shown, lines, width)) > width and len(shown) > _LEAST:
        shown.remove(max(shown, key=lambda column: column.from_width))
    return table


def _wide(table: Table) -> int:
    return Measurement.get(_BOUNDLESS, _BOUNDLESS.options, table).maximum


_BOUNDLESS = Console(width=10_000)


def _grid(columns: Sequence[Cell], lines: Sequence[Line], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold cyan")
    for number, column in enumerate(columns):
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=max(12, width // 3) if number == 0 else None,
        )
    for line in lines:
        table.add_row(*(column.say(line) for column in columns), style=_TONES[line.get("tone", "")])
    return table


def _models(seen: Line) -> list[dict[str, Any]]:
    """A line for each model, from its lanes and its workers."""
    found: defaultdict[str, dict[str, Any]] = defaultdict(lambda: defaultdict(int))
    for node in seen["nodes"]:
        if "model" in node:
            line = found[node["model"]]
            line |= {"model": node["model"], f"{node['lane']}_lag": node["lag"]}
            line["errors"] += node["errors"] or 0
            line["known"] = line["known"] or node["errors"] is not None
            line["tone"] = _worse(line["tone"] or "", node["tone"])
            line["why"] = line["why"] or node["why"]
            for name in ("p99_ms", "ttft_p99_ms"):
                line[name] = max(filter(None, (line[name], node[name])), default=None)
    for worker in seen["workers"]:
        line = found[worker["model"]]
        for name in ("running", "room", "waiting", "prefill_tokens_per_second", "decode_tokens_per_second"):
            line[name] += worker[name]
        line["model"] = worker["model"]
    for line in found.values():
        if line["room"] and not (line["waiting"] or line["errors"]):
            line |= {"tone": "", "why": ""}  # its lag is what runs
    return [line for _, line in sorted(found.items())]


def _worse(one: str, other: str) -> str:
    order = ("", "warn", "bad")
    return max(one, other, key=order.index)


def _limit(account: AccountUsage) -> dict[str, Any]:
    name, measure = max(account.measures.items(), key=lambda item: item[1].share)
    whose = " ".join(filter(None, (account.tenant, account.user, account.feature, account.api_key)))
    tone = "bad" if account.share >= 1 else "warn" if account.share >= 0.8 else ""
    return {"whose": whose, "limit": HEADINGS[name], "share": account.share, "reset_ms": measure.reset_ms, "tone": tone}


def _count(number: float | None) -> str:
    if number is None:
        return _UNKNOWN
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**4)):
        if number >= size:
            return f"{number / (10**3 if unit == 'k' else size):.{0 if unit == 'k' else 1}f}{unit}"
    return f"{number:.0f}"


def _rate(number: float | None) -> str:
    return _UNKNOWN if number is None else f"{number:.1f}" if number < 100 else _count(number)


def _ms(number: float | None) -> str:
    if number is None:
        return _UNKNOWN
    return f"{number:.0f} ms" if number < 10_000 else f"{number / 1000:.1f} s"


def _part(number: float | None) -> str:
    return _UNKNOWN if number is None else f"{number:.0%}"


def _behind(line: Line) -> str:
    return _UNKNOWN if line["behind_s"] is None else f"{line['behind_s']:.1f} s"


_STAGE = (
    Cell("stage", lambda line: line["id"], right=False),
    Cell("rate/s", lambda line: _rate(line["rate"])),
    Cell("lag", lambda line: _count(line["lag"])),
    Cell("behind", _behind, 60),
    Cell("p99", lambda line: _ms(line["p99_ms"])),
    Cell("errors", lambda line: _count(line["errors"]), 50),
    Cell("", lambda line: line["why"], 90, right=False),
)
_MODEL = (
    Cell("model", lambda line: line["model"], right=False),
    Cell("lag", lambda line: _count(line["interactive_lag"])),
    Cell("batch", lambda line: _count(line["batch_lag"]), 50),
    Cell("waiting", lambda line: _count(line["waiting"]) if line["room"] else _UNKNOWN, 75),
    Cell("running", lambda line: f"{line['running']}/{line['room']}"),
    Cell("in tok/s", lambda line: _count(line["prefill_tokens_per_second"]), 70),
    Cell("out tok/s", lambda line: _count(line["decode_tokens_per_second"])),
    Cell("wait p99", lambda line: _ms(line["p99_ms"]), 70),
    Cell("first p99", lambda line: _ms(line["ttft_p99_ms"]), 60),
    Cell("errors", lambda line: _count(line["errors"] if line["known"] else None), 50),
    Cell("", lambda line: line["why"] or "", 110, right=False),
)
_WORKER = (
    Cell("worker", lambda line: line["worker"], right=False),
    Cell("model", lambda line: line["model"], 40, right=False),
    Cell("running", lambda line: f"{line['running']}/{line['room']}"),
    Cell("waiting", lambda line: _count(line["waiting"])),
    Cell("KV", lambda line: _part(line["kv_used"]), 60),
    Cell("tok/s", lambda line: _count(line["decode_tokens_per_second"]), 50),
    Cell("ended", lambda line: _count(line["ended"]), 80),
    Cell("failed", lambda line: _count(line["failed"]), 70),
    Cell("", lambda line: line["why"], 100, right=False),
)
_LIMIT = (
    Cell("limit of", lambda line: line["whose"], right=False),
    Cell("", lambda line: line["limit"], right=False),
    Cell("used", lambda line: bar(line["share"]), right=False),
    Cell("whole again in", lambda line: duration(line["reset_ms"]), 70),
)
