"""One replay from file to report: keys for its tenants, the load with a progress bar, comparison with the ledger."""

import asyncio
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from ulid import ULID

from millrace.keys import create_key, revoke_key
from millrace.ledger_client import ledger
from millrace.polling import until
from millrace.replay.client import Client, Result, run_plan
from millrace.replay.ledger import ledger_rows
from millrace.replay.prompts import TENANTS, PlannedRequest, plan
from millrace.replay.report import client_totals, ledger_totals, render_report
from millrace.replay.trace import read_trace
from millrace.stack_file import connected_settings, running_stack

CONNECTIONS = 512
KEYS_SECONDS = 10.0


async def replay(trace: Path, data_dir: Path, *, speed: float, limit: int | None, console: Console) -> bool:
    """Whether every request was answered and the ledger's totals equal the client's; `speed` is how many times as fast
    as the trace was. Raises ConfigError, StackError."""
    stack, settings = running_stack(data_dir), connected_settings(data_dir)
    run = f"replay-{ULID()}".lower()
    requests = plan(read_trace(trace, limit), run)
    with ledger(data_dir) as clickhouse:
        keys = {tenant: await create_key(settings, tenant) for tenant in TENANTS}
        try:
            started = time.perf_counter()
            secrets = {tenant: key.secret for tenant, key in keys.items()}
            results = await _drive(stack.url, secrets, requests, speed, console)
            seconds = time.perf_counter() - started
        finally:
            for key in keys.values():
                await revoke_key(settings, key.key.id)
        totals = client_totals(results)
        rows = await ledger_rows(clickhouse, run, totals.requests)
    console.print(render_report(results, rows, seconds))
    _explain_failures(results, console)
    return totals == ledger_totals(rows) and totals.requests == len(results)


async def _drive(
    url: str, api_keys: dict[str, str], requests: list[PlannedRequest], speed: float, console: Console
) -> list[Result]:
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    timeout = httpx.Timeout(30.0, read=180.0)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f}/s, {task.fields[errors]} errors"),
        TimeElapsedColumn(),
        console=console,
    )
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=timeout) as http:
        async with asyncio.timeout(KEYS_SECONDS):
            await until(lambda: _all_known(http, api_keys))
        with bar:
            task = bar.add_task("replaying", total=len(requests), rate=0.0, errors=0)
            started = time.perf_counter()

            def seen(result: Result) -> None:
                done = bar.tasks[task].completed + 1
                errors = bar.tasks[task].fields["errors"] + bool(result.errors)
                bar.update(task, advance=1, rate=done / (time.perf_counter() - started), errors=errors)

            return await run_plan(Client(http, api_keys), requests, speed, seen)


async def _all_known(http: httpx.AsyncClient, api_keys: dict[str, str]) -> bool:
    """Whether the ingress has read the keys that were just made."""
    answers = [await http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}) for key in api_keys.values()]
    return all(answer.status_code == httpx.codes.OK for answer in answers)


def _explain_failures(results: list[Result], console: Console) -> None:
    unanswered = [result for result in results if result.outcome != "succeeded"]
    for result in unanswered[:5]:
        console.print(f"[red]{result.request.idempotency_key}[/]: {result.outcome}: {'; '.join(result.errors)}")
    if len(unanswered) > 5:
        console.print(f"[red]… and {len(unanswered) - 5} more[/]")
