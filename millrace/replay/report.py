"""What a replay showed: the client's own figures, and that the ledger says the same."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from contracts.prices import NANO
from millrace.replay.client import Result


class LedgerRow(NamedTuple):
    """One tenant and feature of this run, as ClickHouse has it."""

    tenant: str
    feature: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nano: int


class Totals(NamedTuple):
    requests: int
    prompt_tokens: int
    completion_tokens: int


def client_totals(results: Iterable[Result]) -> Totals:
    """Over answered requests: what the client was told, and so what it may be billed for."""
    answered = [result for result in results if result.outcome == "succeeded"]
    return Totals(len(answered), sum(r.prompt_tokens for r in answered), sum(r.completion_tokens for r in answered))


def ledger_totals(rows: Iterable[LedgerRow]) -> Totals:
    rows = list(rows)
    return Totals(
        sum(r.requests for r in rows), sum(r.prompt_tokens for r in rows), sum(r.completion_tokens for r in rows)
    )


def percentile(values: list[float], share: float) -> float:
    """Nearest rank; 0 for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def render_report(results: list[Result], ledger: list[LedgerRow], seconds: float) -> RenderableType:
    return Group(
        _outcomes(results),
        _rate(client_totals(results), seconds),
        _latency(results),
        _models(results),
        _costs(ledger),
        _verdict(client_totals(results), ledger_totals(ledger)),
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _outcomes(results: list[Result]) -> Table:
    table = _table("\nRequests", "outcome", "requests", "share")
    for outcome, count in Counter(result.outcome for result in results).most_common():
        table.add_row(outcome, f"{count:,}", f"{count / len(results):.1%}")
    retried = sum(result.tries > 1 for result in results)
    table.add_row("[dim]of these retried[/]", f"{retried:,}", f"{retried / len(results):.1%}")
    return table


def _rate(totals: Totals, seconds: float) -> Text:
    per_second = (
        f"{totals.requests / seconds:,.0f} answers/s, {totals.completion_tokens / seconds:,.0f} output tokens/s"
    )
    return Text(f"{seconds:.1f} s: {per_second}", style="dim")


def _latency(results: list[Result]) -> Table:
    answered = [result for result in results if result.outcome == "succeeded"]
    table = _table("\nLatency, seconds", "", "p50", "p95", "p99")
    streamed = [result.ttft for result in answered if result.ttft is not None]
    for name, values in (("time to first token (streamed)", streamed), ("total", [r.total for r in answered])):
        table.add_row(name, *(f"{percentile(values, share):.3f}" for share in (0.5, 0.95, 0.99)))
    return table


def _models(results: list[Result]) -> Table:
    table = _table("\nModels", "asked → served", "requests", "output tokens")
    counts: Counter[str] = Counter()
    tokens: dict[str, int] = defaultdict(int)
    for result in results:
        if result.outcome == "succeeded":
            pair = f"{result.request.body['model']} → {result.model}"
            counts[pair] += 1
            tokens[pair] += result.completion_tokens
    for pair, count in sorted(counts.items()):
        table.add_row(pair, f"{count:,}", f"{tokens[pair]:,}")
    return table


def _costs(ledger: list[LedgerRow]) -> Table:
    table = _table("\nCost by tenant and feature (ClickHouse)", "tenant", "feature", "requests", "tokens", "dollars")
    table.columns[1].justify = "left"
    for row in sorted(ledger):
        tokens = row.prompt_tokens + row.completion_tokens
        table.add_row(row.tenant, row.feature, f"{row.requests:,}", f"{tokens:,}", _dollars(row.cost_nano))
    total = ledger_totals(ledger)
    table.add_section()
    table.add_row(
        "[bold]total[/]",
        "",
        f"{total.requests:,}",
        f"{total.prompt_tokens + total.completion_tokens:,}",
        f"[bold]{_dollars(sum(row.cost_nano for row in ledger))}[/]",
    )
    return table


def _dollars(nano: int) -> str:
    return f"{nano // NANO}.{nano % NANO // 1000:06d}"


def _verdict(client: Totals, ledger: Totals) -> Text:
    if client == ledger:
        figures = f"{client.requests:,} requests, {client.prompt_tokens:,} + {client.completion_tokens:,} tokens"
        return Text(f"\nThe client's own count equals ClickHouse's: {figures}.", style="bold green")
    return Text(f"\nThe client's count differs from ClickHouse's: {client} against {ledger}.", style="bold red")
