"""The real Prometheus on the running stack: figures equal what was done, panels have data, an alert fires and ends."""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import openai
import pytest

from contracts.prices import NANO, load_prices
from millrace.stack_file import StackFile, running_stack
from tests.support.prometheus import Prometheus, panel_queries, running

BINARY = shutil.which("prometheus")
pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(BINARY is None, reason="Prometheus isn't installed (Debian: apt install prometheus)"),
]
REQUESTS, TOKENS = 5, 7
OURS = 'model="large", lane="batch"'  # nobody else's here
OURS_BY_OTEL = 'gen_ai_request_model="large", gen_ai_operation_name="text_completion", lane="batch"'
MAY_BE_EMPTY = {"workers: GPU", "workers: GPU memory", "workers: Errors by type", "pipeline: Turned away"}


@pytest.fixture(scope="module")
async def prometheus(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    assert BINARY is not None
    targets = data_dir / "prometheus" / "targets.json"
    async with running(BINARY, tmp_path_factory.mktemp("prometheus"), targets) as started:
        yield started


async def until_all_up(prometheus: Prometheus, stack: StackFile) -> set[str]:
    """Each process has been asked once, so that what is counted from now on is an increase."""
    expected = {child.name for child in stack.children} - {"kafka"}

    async def all_up() -> bool:
        return {labels["process"] for labels, value in await prometheus.query("up == 1") if value} == expected

    await prometheus.until(all_up)
    return expected


async def test_it_finds_every_process(prometheus: Prometheus, stack: StackFile) -> None:
    expected = await until_all_up(prometheus, stack)
    assert [child.metrics_url for child in stack.children if child.name == "kafka"] == [None]
    assert all(child.metrics_url for child in stack.children if child.name in expected)


async def work(sdk: openai.AsyncOpenAI) -> int:
    """So many requests, and one of them again. Tokens of each one's prompt."""
    keys = [f"prometheus-{uuid4()}" for _ in range(REQUESTS)]
    prompt_tokens = 0
    for key in [*keys, keys[0]]:
        headers = {"Idempotency-Key": key, "Millrace-Lane": "batch"}
        answer = await sdk.completions.create(model="large", prompt="Once", max_tokens=TOKENS, extra_headers=headers)
        assert answer.usage is not None
        prompt_tokens = answer.usage.prompt_tokens
    return prompt_tokens


async def test_figures_are_what_was_done(prometheus: Prometheus, sdk: openai.AsyncOpenAI) -> None:
    figures = {
        f"sum(millrace_admitted_requests_total{{{OURS}}})": REQUESTS,
        f'sum(millrace_requests_total{{{OURS}, outcome="succeeded"}})': REQUESTS,
        f'sum(millrace_runs_total{{{OURS}, outcome="succeeded"}})': REQUESTS,
        f'sum(millrace_engine_tokens_total{{{OURS}, type="completion"}})': REQUESTS * TOKENS,
        f"sum(gen_ai_server_time_to_first_token_seconds_count{{{OURS_BY_OTEL}}})": REQUESTS,
        f"sum(gen_ai_server_time_per_output_token_seconds_count{{{OURS_BY_OTEL}}})": REQUESTS,
        f"sum(millrace_queue_wait_seconds_count{{{OURS}}})": REQUESTS,
        'sum(millrace_dedupe_decisions_total{decision="replayed"})': 1,
        'sum(millrace_http_requests_total{route="/v1/completions", code="200"})': REQUESTS + 1,
        'sum(gen_ai_client_token_usage_sum{gen_ai_operation_name="text_completion", gen_ai_request_model="large", '
        'gen_ai_token_type="output"})': REQUESTS * TOKENS,
    }
    money = 'sum(millrace_request_cost_dollars_sum{model="large"})'
    before = {query: await prometheus.value(query) for query in [*figures, money]}
    prompt_tokens = await work(sdk)

    async def told() -> bool:
        return all([await prometheus.value(query) - before[query] == more for query, more in figures.items()])

    try:
        await prometheus.until(told)
    except TimeoutError:
        raise AssertionError({query: await prometheus.value(query) - before[query] for query in figures}) from None
    price = load_prices().find("large", "2.5", 1_795_000_000_000)
    assert price is not None
    cost = REQUESTS * price.cost(prompt_tokens, 0, TOKENS) / NANO
    assert await prometheus.value(money) - before[money] == pytest.approx(cost)


async def test_the_lag_is_known_and_ends(prometheus: Prometheus) -> None:
    async def nothing_waits() -> bool:
        lag = await prometheus.query("max by (group, topic) (millrace_lag_records)")
        reserved = await prometheus.value("sum(millrace_reserved_tokens)")
        return len(lag) >= 13 and not any(value for _, value in lag) and not reserved

    await prometheus.until(nothing_waits)


async def test_every_panel_has_data(prometheus: Prometheus, stack: StackFile, sdk: openai.AsyncOpenAI) -> None:
    await until_all_up(prometheus, stack)
    await work(sdk)
    missing: set[str] = set()

    async def whole() -> bool:
        missing.clear()
        for panel, query in panel_queries(within="5m"):
            if not await prometheus.query(query):
                missing.add(panel)
        return missing <= MAY_BE_EMPTY

    try:
        await prometheus.until(whole)
    except TimeoutError:
        raise AssertionError(missing - MAY_BE_EMPTY) from None


@contextmanager
def suspended(stack: StackFile) -> Iterator[None]:
    """No worker does anything, and none is gone, so that nobody starts it again."""
    pids = [child.pid for child in stack.children if child.name.startswith("worker") and child.pid]
    assert len(pids) == 2
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_an_alert_fires_when_no_worker_lives_and_ends_when_they_do(
    prometheus: Prometheus, data_dir: Path, sdk: openai.AsyncOpenAI
) -> None:
    async def quiet() -> bool:
        return not await prometheus.firing("MillraceNoLiveWorker") and await prometheus.value(_LIVE) == 2

    async def fires() -> bool:
        return bool(await prometheus.firing("MillraceNoLiveWorker"))

    await prometheus.until(quiet)
    with suspended(running_stack(data_dir)):
        await prometheus.until(fires)
        down = await prometheus.firing("MillraceProcessDown")
        assert {labels["process"] for labels in down} >= {"worker-1", "worker-2"}
    await prometheus.until(quiet)
    answer = await sdk.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Are you back?"}], max_tokens=3, timeout=90
    )
    assert answer.choices[0].message.content


_LIVE = 'sum(up{job="millrace", service="worker"})'
