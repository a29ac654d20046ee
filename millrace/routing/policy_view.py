"""How a policy, and what it would have cost, look on a terminal."""

from rich.console import Console
from rich.table import Table

from contracts.catalogue import Catalogue, Rule
from contracts.policy_record import Calibration
from millrace.routing.hindsight import Hindsight
from millrace.routing.traffic import Seen

_BOUNDS = {
    "max_complexity": "complexity ≤ {:g}",
    "min_prompt_tokens": "prompt ≥ {:,}",
    "max_prompt_tokens": "prompt ≤ {:,}",
    "min_budget_used": "budget used ≥ {:.0%}",
    "tenants": "tenant {}",
    "features": "feature {}",
    "users": "user {}",
}


def show_policy(version: str, catalogue: Catalogue, calibration: Calibration | None, console: Console) -> None:
    console.print(f"policy [bold]{version}[/]", highlight=False)
    table = _table("rule", "goes to", "when", "then", left=4)
    for rule in catalogue.rules:
        cells = (describe_target(catalogue, rule), " · ".join(describe_bounds(rule)) or "always")
        table.add_row(rule.name, *cells, " · ".join(describe_others(rule)))
    console.print(table)
    for name, spec in catalogue.models.items():
        if spec.fallback:
            console.print(f"{name} falls back to {', then '.join(spec.fallback)}", highlight=False)
    if calibration:
        bound = f"complexity ≤ {calibration.max_complexity:g}{_reference(calibration.reference_nano)}"
        console.print(
            f"{calibration.rule}: {bound} spends {calibration.spend:.1%} of "
            f"always-best, on {calibration.requests:,} requests (target {calibration.spend_target:.0%})",
            highlight=False,
        )


def show_hindsight(found: Hindsight, seen: Seen, console: Console) -> None:
    console.print(
        f"policy [bold]{found.policy.version}[/] on {found.requests:,} requests, {found.automatic:,} of them for auto "
        f"({seen.left_out:,} without a bill are left out)",
        highlight=False,
    )
    if not found.automatic:
        return
    costs = _table("auto requests", "dollars", "of always-best")
    rows = {"as they went": found.then, "by this policy": found.now, "always best": found.best, "cheapest": found.cheap}
    for name, nano in rows.items():
        costs.add_row(name, _dollars(nano), f"{nano / found.best:.1%}" if found.best else "")
    console.print(costs)
    moves = _table("went to", "would go to", "requests", "dollars then", "dollars now", left=2)
    for move, line in sorted(found.moves.items(), key=lambda item: -item[1].requests):
        moves.add_row(*move, f"{line.requests:,}", _dollars(line.cost_then), _dollars(line.cost_now))
    console.print(moves)
    rules = _table("by rule", "requests", "share")
    for rule, count in found.rules.most_common():
        rules.add_row(rule, f"{count:,}", f"{count / found.automatic:.1%}")
    console.print(rules)


def describe_target(catalogue: Catalogue, rule: Rule) -> str:
    """Where a rule sends its requests."""
    if rule.split:
        total = sum(rule.split.values())
        return ", ".join(f"{model} {weight / total:.0%}" for model, weight in rule.split.items())
    group = catalogue.classes.get(rule.model or "")
    return f"{rule.model} ({group.prefer}: {', '.join(group.models)})" if group else str(rule.model)


def describe_bounds(rule: Rule) -> list[str]:
    """When a rule fits; empty for always."""
    given = {name: getattr(rule, name) for name in _BOUNDS}
    if rule.max_complexity == 1 and rule.reference_nano is None:
        del given["max_complexity"]
    texts = {name: ", ".join(value) if isinstance(value, list) else value for name, value in given.items()}
    bounds = [_BOUNDS[name].format(value) for name, value in texts.items() if value is not None]
    return [bounds[0] + _reference(rule.reference_nano), *bounds[1:]] if rule.reference_nano else bounds


def describe_others(rule: Rule) -> list[str]:
    """Which other models run what a rule has sent on."""
    others = []
    if rule.cascade:
        others.append(f"{', '.join(rule.cascade.on)} → {rule.cascade.model}")
    if rule.shadow:
        others.append(f"{rule.shadow.share:.3g} shadowed by {rule.shadow.model}")
    return others


def _reference(nano: int | None) -> str:
    """What a threshold is for, when it grows with what a request costs more on the better model."""
    return "" if nano is None else f" at {nano / 1e9:.9f} dollars extra"


def _dollars(nano: int) -> str:
    return f"{nano / 1e9:,.6f}"


def _table(*columns: str, left: int = 1) -> Table:
    """The first `left` columns are text."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right")
    return table
