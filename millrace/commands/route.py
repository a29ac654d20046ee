"""`millrace route`: the policy that routes `auto`, and its scorer: trained, measured, asked why."""

# ruff: noqa: PLC0415 - keeps --help fast

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.commands import route_policy
from millrace.commands.options import DataDir, Format
from millrace.commands.route_policy import span_of

if TYPE_CHECKING:
    from millrace.routing.dataset import Dataset, Labelled
    from millrace.routing.evaluation import Evaluation
    from millrace.routing.worth import Worth

app = typer.Typer(no_args_is_help=True, help="The policy that routes `auto`, and its scorer: trained, measured, asked.")
for command in (route_policy.apply, route_policy.show, route_policy.calibrate, route_policy.reset, route_policy.replay):
    app.command()(command)
Questions = Annotated[
    Path, typer.Argument(help="JSON lines: domain, prompt, weak_correct, strong_correct.", exists=True, dir_okay=False)
]


@app.command("eval")
def evaluate(
    file: Questions,
    scorer: Annotated[
        Path | None, typer.Option(help="Another scorer than the shipped one, from `route train`.", dir_okay=False)
    ] = None,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Train anew for each fold of subjects, and measure on those left out.")
    ] = False,
    subject: Annotated[list[str] | None, typer.Option(help="Only these subjects; may be given again.")] = None,
    seed: Annotated[int, typer.Option(help="Deals the subjects to the folds.")] = 1,
    svg: Annotated[Path | None, typer.Option(help="Draw the curve into this file.", dir_okay=False)] = None,
    png: Annotated[Path | None, typer.Option(help="Likewise, as PNG; needs millrace[plot].", dir_okay=False)] = None,
    format_: Format = "table",
) -> None:
    """Show the cost/quality curve and APGR of the scorer on labelled questions."""
    from millrace.routing.dataset import Dataset
    from millrace.routing.training import complexities, unseen_needs

    rows = Dataset.read(file).rows
    needs = complexities(unseen_needs(rows, seed), rows) if unseen else _needs(rows, scorer)
    kept = [n for n, row in enumerate(rows) if not subject or row.subject in subject]
    rows, needs = [rows[n] for n in kept], [needs[n] for n in kept]
    found = _evaluate(rows, needs)
    _show(found._replace(worth=_worth(rows, needs)), format_, svg, png)


@app.command()
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the scorer goes.", dir_okay=False)],
    file: Annotated[
        Path | None, typer.Argument(help="Labelled questions, as `eval` reads them.", exists=True, dir_okay=False)
    ] = None,
    from_feedback: Annotated[
        bool, typer.Option("--from-feedback", help="Learn from what callers thought of answers, alone or as well.")
    ] = False,
    from_shadow: Annotated[
        bool, typer.Option("--from-shadow", help="Learn from shadow runs, alone or as well.")
    ] = False,
    since: Annotated[str, typer.Option(help="Of requests since 1h, 7d, or a date or time in UTC.")] = "30d",
    seed: Annotated[int, typer.Option(help="Deals the subjects to the folds.")] = 1,
    data_dir: DataDir = None,
    format_: Format = "table",
) -> None:
    """Learn a scorer: the same questions and seed give the same bytes. Shows what it is worth on subjects left out."""
    from contracts.errors import ConfigError
    from millrace.routing.dataset import Dataset
    from millrace.routing.training import train, unseen_needs
    from streams.scoring.learned import dump

    if file is None and not (from_feedback or from_shadow):
        raise ConfigError("Give a FILE of labelled questions, --from-feedback, --from-shadow, or several of them.")
    data = Dataset.read(file) if file else None
    if from_feedback or from_shadow:
        data = _with_traffic(data, since, data_dir, feedback=from_feedback, shadow=from_shadow)
    assert data is not None, "one of them was given"
    needs = unseen_needs(data.rows, seed)
    output.write_bytes(dump(train(data, needs, seed)))
    _show(_evaluate(data.rows, needs), format_)


@app.command()
def explain(
    prompt: Annotated[str | None, typer.Argument(help="What a caller would ask.")] = None,
    key: Annotated[str, typer.Option(help="Or the idempotency key of a request that has passed.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose request that was.")] = "",
    since: Annotated[str, typer.Option(help="How far back to look for it.")] = "1d",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The answer's cap, for the prices.")] = None,
    data_dir: DataDir = None,
    format_: Format = "table",
) -> None:
    """Show where a request would go now: features with contributions, score, rules, choice, price of each choice."""
    import asyncio

    from rich.console import Console

    from contracts.errors import ConfigError
    from contracts.prices import load_prices
    from millrace.load_settings import load_connected_settings
    from millrace.routing.explanation import as_asked, explain
    from millrace.routing.policy_topic import policy_in_force
    from millrace.routing.standing import conditions_of
    from millrace.routing.traffic import past_request
    from millrace.routing.view import show_explanation
    from streams.policy.running import router_of

    if (prompt is None) != bool(key) or bool(key) != bool(tenant):
        raise ConfigError("Give a prompt, or --key and --tenant.")
    settings, span = load_connected_settings(data_dir), span_of(since)
    if prompt is None:
        asked = asyncio.run(past_request(settings, f"{tenant}:{key}", *span))
    else:
        asked = as_asked(prompt, span.until, max_tokens)
    prices = load_prices(settings.prices_file)
    router = router_of(asyncio.run(policy_in_force(settings)), prices)
    found = explain(asked, router, prices, asyncio.run(conditions_of(settings, asked)))
    if format_ == "json":
        _write_json(found.document())
    else:
        show_explanation(found, router.catalogue, Console())


def _with_traffic(
    file: "Dataset | None", since: str, data_dir: Path | None, *, feedback: bool, shadow: bool
) -> "Dataset":
    import asyncio

    from contracts.catalogue import load_catalogue
    from contracts.prices import load_prices
    from millrace.ledger_client import ledger
    from millrace.load_settings import load_connected_settings
    from millrace.routing.from_feedback import best_model, joined, judgements, labelled
    from millrace.routing.from_shadow import compared_questions, comparisons

    settings, span = load_connected_settings(data_dir), span_of(since)
    best = best_model(load_catalogue(settings.routes_file), load_prices(settings.prices_file), span.until)
    with ledger(data_dir) as client:
        judged = judgements(client, span.since) if feedback else {}
        compared = comparisons(client, span.since) if shadow else {}
    rows = asyncio.run(labelled(settings, judged, best, *span)) if feedback else []
    if shadow:  # of a question that somebody has judged as well, that counts
        told = {key: found for key, found in compared.items() if key not in judged}
        rows += asyncio.run(compared_questions(settings, told, best, *span))
    return joined(rows, file)


def _write_json(document: dict[str, object]) -> None:
    import orjson

    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def _needs(rows: Sequence["Labelled"], path: Path | None) -> list[float]:
    from pydantic import ValidationError

    from contracts.errors import ConfigError
    from streams.scoring.learned import LearnedScorer, shipped_scorer

    try:
        scorer = LearnedScorer.load(path.read_bytes()) if path else shipped_scorer()
    except ValidationError as error:
        raise ConfigError(f"{path} is not a scorer that `millrace route train` wrote.") from error
    return [1 - scorer.score(row.prompt).small_suffices for row in rows]


def _worth(rows: Sequence["Labelled"], needs: Sequence[float]) -> "Sequence[Worth]":
    """At today's prices of the least and the best model."""
    from contracts.catalogue import load_catalogue
    from contracts.clock import now_ms
    from contracts.prices import load_prices
    from contracts.settings import Settings
    from millrace.load_settings import load
    from millrace.routing.from_feedback import by_standing
    from millrace.routing.worth import worth

    settings, at = load(Settings), now_ms()
    catalogue, prices = load_catalogue(settings.routes_file), load_prices(settings.prices_file)
    models = by_standing(catalogue, prices, at)
    weak, strong = (prices.find(model, catalogue.models[model].version, at) for model in (models[0], models[-1]))
    return worth(rows, needs, weak, strong) if weak and strong else ()


def _show(found: "Evaluation", format_: str, svg: Path | None = None, png: Path | None = None) -> None:
    from rich.console import Console

    from millrace.routing.view import show_evaluation

    if svg:
        from millrace.routing.plot import svg as draw

        svg.write_text(draw(found.points, found.apgr))
    if png:
        from millrace.routing.picture import draw_png

        draw_png(found.points, found.apgr, found.questions, png)
    if format_ == "json":
        _write_json(found.document())
    else:
        show_evaluation(found, Console())


def _evaluate(rows: Sequence["Labelled"], needs: Sequence[float]) -> "Evaluation":
    from contracts.errors import ConfigError
    from millrace.routing.evaluation import evaluate

    if not rows:
        raise ConfigError("No question is of that subject.")
    try:
        return evaluate(rows, needs)
    except ValueError as error:
        raise ConfigError(str(error)) from None
