"""The table of a run, and every finding in a line of its own."""

from collections import defaultdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millrace.replay.report import percentile
from tests.chaos.books import CONTRADICTED, DOUBLED, LOST, UNCOUNTED, by_kind, totals, wasted_tokens
from tests.chaos.campaign import Outcome, Round
from tests.chaos.faults import FAULTS, goal_seconds

_COLUMNS = ("fault", "times", "requests", "lost", "doubled", "contradicted", "stale", "p50 s", "p99 s", "goal", "waste")


def render(outcome: Outcome) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows(outcome):
        table.add_row(*row)
    findings = [f"{finding.kind}: {finding.key}: {finding.sentence}" for finding in outcome.findings]
    findings += [f"stale commit: {stale}" for stale in outcome.stale]
    return Group(table, Text("\n" + "\n".join([*findings, sums(outcome)])))


def rows(outcome: Outcome) -> list[list[str]]:
    """One for each fault, in the order of the registry, then the sum."""
    by_name: dict[str, list[Round]] = defaultdict(list)
    for one in outcome.rounds:
        by_name[one.name].append(one)
    names = [name for name in (*FAULTS, "mixed") if name in by_name]
    return [*(_row(outcome, name, by_name[name]) for name in names), _row(outcome, "all", outcome.rounds)]


def _row(outcome: Outcome, name: str, done: list[Round]) -> list[str]:
    keys = {key for one in done for key in one.keys}
    kinds = by_kind(outcome.findings, keys)
    stale = sum(one.began <= commit.at < one.ended for one in done for commit in outcome.stale)
    seconds = [one.recovery_seconds for one in done]
    goal = goal_seconds(name, outcome.brokers)
    return [
        name,
        str(len(done)),
        f"{len(keys):,}",
        *(str(kinds.get(kind, 0)) for kind in (LOST, DOUBLED)),
        str(kinds.get(CONTRADICTED, 0) + kinds.get(UNCOUNTED, 0)),
        str(stale),
        f"{percentile(seconds, 0.5):.1f}",
        f"{percentile(seconds, 0.99):.1f}",
        "" if goal is None else f"{goal:g}",
        f"{wasted_tokens(outcome.evidence, keys):,}",
    ]


def sums(outcome: Outcome) -> str:
    """Tokens three times over."""
    counted = totals(outcome.evidence)
    parts = (("clients", counted.clients), ("usage", counted.events), ("ClickHouse", counted.rows))
    told = ", ".join(f"{name} {prompt:,} + {completion:,}" for name, (prompt, completion) in parts)
    return f"Prompt + completion tokens: {told}: {'equal' if counted.agree else 'NOT EQUAL'}."


def holds(outcome: Outcome) -> bool:
    return not outcome.findings and not outcome.stale and totals(outcome.evidence).agree
