"""The table of a run, and every finding in a line of its own. Its seconds are those of answers, not of rounds: from the
fault until each answer that it held up."""

from collections import Counter, defaultdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from contracts.usage import UsageKind
from millrace.replay.report import percentile
from tests.chaos.books import (
    CANCELLED,
    CONTRADICTED,
    DIFFERED,
    DOUBLED,
    LOST,
    OVERSPENT,
    UNCOUNTED,
    answers,
    by_kind,
    count,
    totals,
    wasted_tokens,
)
from tests.chaos.campaign import Outcome, Round
from tests.chaos.faults import FAULTS, goal_seconds

ROLLING = ("term-ingress", "term-streams", "term-worker", "term-analytics")  # restarts that nobody is to notice
_COLUMNS = (
    *("fault", "times", "requests", "lost", "doubled", "contradicted", "differed", "overspent", "stale", "broken"),
    *("held up", "p50 s", "p99 s", "worst s", "goal s", "waste"),
)


def render(outcome: Outcome) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows(outcome):
        table.add_row(*row)
    return Group(table, Text("\n" + "\n".join([*remarks(outcome), carried(outcome), sums(outcome)])))


def markdown(outcome: Outcome) -> str:
    """The same, for a document."""
    lines = [_COLUMNS, ("---", *["---:"] * (len(_COLUMNS) - 1)), *rows(outcome)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    told = [carried(outcome), sums(outcome), *(f"- {remark}" for remark in remarks(outcome))]
    return "\n\n".join([table, *told]) + "\n"


def remarks(outcome: Outcome) -> list[str]:
    """Everything that is not as it should be."""
    found = [f"{finding.kind}: {finding.key}: {finding.sentence}" for finding in outcome.findings]
    found += [f"stale commit: {stale}" for stale in outcome.stale]
    found += [f"void, since it did not happen: {why}" for one in outcome.rounds for why in one.void]
    return found + missed(outcome)


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
    seconds = [second for one in done for second in one.held_up]
    goal = goal_seconds(name, outcome.brokers)
    return [
        name,
        str(len(done)),
        f"{len(keys):,}",
        *(str(kinds.get(kind, 0)) for kind in (LOST, DOUBLED)),
        str(kinds.get(CONTRADICTED, 0) + kinds.get(UNCOUNTED, 0)),
        *(str(kinds.get(kind, 0)) for kind in (DIFFERED, OVERSPENT)),
        str(stale),
        str(sum(len(one.failed) for one in done)),
        str(len(seconds)),
        f"{percentile(seconds, 0.5):.1f}",
        f"{percentile(seconds, 0.99):.1f}",
        f"{max(seconds, default=0.0):.1f}",
        "" if goal is None else f"{goal:g}",
        f"{wasted_tokens(outcome.evidence, keys):,}",
    ]


def carried(outcome: Outcome) -> str:
    """What the load was made of: the rest of the table says nothing of what didn't occur."""
    evidence = outcome.evidence
    calls, deleted = evidence.told, [deletion.status for deletion in evidence.deletions]
    doors = Counter(told.ask.door for told in calls)
    left = Counter(told.ask.on_disconnect for told in calls if told.left)
    cancelled = sum(said.finish_reason == CANCELLED for said in answers(evidence))
    parts = [
        "calls " + ", ".join(f"{number:,} {door}" for door, number in sorted(doors.items())),
        f"streams gone on with {sum(told.cuts > 0 for told in calls):,}, cut {sum(told.cuts for told in calls):,}x",
        "hung up " + ", ".join(f"{left[way]:,} to {way}" for way in sorted(left)),
        f"DELETEs {len(deleted):,}: {deleted.count(200):,} cancelled, {deleted.count(409):,} too late",
        f"cancelled answers {cancelled:,}",
        f"escalated {count(evidence, UsageKind.ESCALATED):,}, shadow runs {count(evidence, UsageKind.SHADOW):,}",
        f"turned away by a limit {sum(told.refused > 0 for told in calls):,}",
        f"streams that said they had diverged {sum(told.diverged for told in calls):,}",
    ]
    return f"Load: {'; '.join(parts)}."


def sums(outcome: Outcome) -> str:
    """Tokens three times over."""
    counted = totals(outcome.evidence)
    parts = (("clients", counted.clients), ("usage", counted.events), ("ClickHouse", counted.rows))
    told = ", ".join(f"{name} {prompt:,} + {completion:,}" for name, (prompt, completion) in parts)
    return f"Prompt + completion tokens: {told}: {'equal' if counted.agree else 'NOT EQUAL'}."


def missed(outcome: Outcome) -> list[str]:
    """Rounds that took longer than their goal, or broke tries where none should break. It is no broken promise, so the
    run stands."""
    goals = [(number, one, goal_seconds(one.name, outcome.brokers)) for number, one in enumerate(outcome.rounds, 1)]
    slow = [
        f"goal missed: round {number}, {one.name}: {one.recovery_seconds:.1f} s, not {goal:g}"
        for number, one, goal in goals
        if goal is not None and one.recovery_seconds > goal
    ]
    return slow + [
        f"goal missed: round {number}, {one.name}: {len(one.failed)} tries broke, the first: {one.failed[0]}"
        for number, one in enumerate(outcome.rounds, 1)
        if one.name in ROLLING and one.failed
    ]


def holds(outcome: Outcome) -> bool:
    """And every fault really happened: a round that proves nothing must not pass for one that does."""
    void = any(one.void for one in outcome.rounds)
    return not (outcome.findings or outcome.stale or void) and totals(outcome.evidence).agree
