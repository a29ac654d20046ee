"""How an evaluation and an explanation look on a terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from contracts.catalogue import Catalogue
from millrace.routing.evaluation import Evaluation
from millrace.routing.explanation import Explanation
from millrace.routing.policy_view import describe_bounds, describe_others, describe_target

_BAR = 30  # characters


def show_evaluation(found: Evaluation, console: Console) -> None:
    console.print(
        f"{found.questions:,} questions: small right {found.weak:.1%}, large right {found.strong:.1%}. "
        f"APGR [bold]{found.apgr:.3f}[/] (random 0.500)."
    )
    curve = _table("Cost and quality", "large calls", "right", "gap recovered", "")
    for point in found.points:
        bar = "█" * round(_BAR * max(0.0, min(1.0, point.recovered)))
        curve.add_row(f"{point.strong_share:.0%}", f"{point.quality:.1%}", f"{point.recovered:.1%}", bar)
    console.print(curve)
    if found.worth:
        spends = _table(
            "Gap recovered at a spend",
            "tokens an answer",
            "of always-large",
            "random",
            "by complexity",
            "… for its price",
        )
        for at in found.worth:
            spends.add_row(f"{at.answer_tokens}", *(f"{share:.1%}" for share in at[1:]))
        console.print(spends)
    subjects = _table("By subject", "subject", "questions", "small", "large", "APGR", left=("subject",))
    for line in found.subjects:
        value = "" if line.apgr is None else f"{line.apgr:.3f}"
        subjects.add_row(line.subject, f"{line.questions:,}", f"{line.weak:.1%}", f"{line.strong:.1%}", value)
    console.print(subjects)


def show_explanation(found: Explanation, catalogue: Catalogue, console: Console, most: int = 15) -> None:
    """The features that weigh the most, the rest in one line."""
    console.print(
        f"complexity [bold]{found.score:.4f}[/] ({found.scorer} scorer) → [bold]{found.model}[/], rule {found.rule}"
    )
    if found.fallback_from:
        console.print(f"instead of {found.fallback_from}: {found.fallback_reason.replace('_', ' ')}")
    if found.escalates_to:
        console.print(f"an answer that doesn't stand goes on to {found.escalates_to}")
    if found.shadow:
        console.print(f"shadow run on {found.shadow} after the answer")
    console.print(f"policy {found.policy}", style="dim", highlight=False)
    for rule in found.rules:
        bounds = ", ".join(describe_bounds(rule)) or "always"
        others = "".join(f"; {said}" for said in describe_others(rule))
        console.print(f"  rule {rule.name}: {describe_target(catalogue, rule)}, {bounds}{others}")
        if found.own and found.own.rule == rule.name:
            own = f"complexity ≤ {found.own.max_complexity:.4g}, at {found.own.extra_nano / 1e9:.9f} dollars extra"
            console.print(f"    for this request: {own}")
    unit = "log-odds" if found.scorer == "learned" else "points"
    console.print(_features(found.features, unit, most))
    prices = _table("Each choice", "model", "dollars, at most", "wait now, s", "then", left=("model", "then"))
    for model, nano in found.costs.items():
        wait_ms, chain = found.waits_ms[model], catalogue.models[model].fallback
        wait = "?" if wait_ms is None else f"{wait_ms / 1000:.1f}"
        prices.add_row(model, "no price" if nano is None else f"{nano / 1e9:.9f}", wait, ", ".join(chain))
    console.print(prices)


def _features(features: Mapping[str, float], unit: str, most: int) -> Table:
    ranked = sorted(features.items(), key=lambda item: -abs(item[1]))
    table = _table("What it is made of", "feature", unit, left=("feature",))
    for name, value in ranked[:most]:
        table.add_row(name, f"{value:+.3f}")
    if ranked[most:]:
        table.add_row(f"{len(ranked) - most} more", f"{sum(value for _, value in ranked[most:]):+.3f}")
    return table


def _table(title: str, *columns: str, left: Sequence[str] = ("",)) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    return table
