"""`millrace cost`, `sql` and `request` against the query port of a stack, as a user runs them."""

import asyncio
import csv
import io
import json
import os
import sys
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from analytics.intake import take_in
from analytics.ledger import Ledger
from contracts.kafka import client_options, header, producer_options
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import Topics
from contracts.usage import UsageKind
from millrace.ports import free_port
from millrace.stack_file import StackFile, own_start_time
from tests.support.usage import as_records, as_values, as_waste, make_events

EVENTS = make_events(400)
RAN = [event for event in EVENTS if event.outcome is Outcome.SUCCEEDED]
WASTE = [as_waste(event) for event in RAN[:5]]


@dataclass
class Output:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def csv(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.out)))


async def millrace(*arguments: str, columns: int = 120, **environment: str) -> Output:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "millrace",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean | {"COLUMNS": str(columns), "NO_COLOR": "1"} | environment,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert "Traceback" not in err.decode()
    return Output(process.returncode or 0, out.decode(), err.decode())


def write_stack(folder: Path, query_url: str | None) -> None:
    StackFile(
        pid=os.getpid(),
        started=own_start_time(),
        ready=True,
        url="http://127.0.0.1:1",
        kafka="127.0.0.1:1",
        query_url=query_url,
        engine="synthetic",
        children=[],
    ).write(folder)


@pytest.fixture
def embedded(engine_folder: Settings) -> Settings:
    """With the patience that the query port has by itself: these tests are not about its limits."""
    return engine_folder.model_copy(update={"clickhouse_database": f"test_{uuid4().hex[:8]}"})


@pytest.fixture
def stack(query_port: int, ledger: Ledger, embedded: Any, tmp_path: Path) -> dict[str, str]:
    """The environment that names it."""
    take_in(ledger, as_records(as_values([*EVENTS, *WASTE])))
    write_stack(tmp_path, f"http://127.0.0.1:{query_port}")
    return {"MILLRACE_DATA_DIR": str(tmp_path), "MILLRACE_CLICKHOUSE_DATABASE": embedded.clickhouse_database}


async def test_cost_in_every_format(stack: dict[str, str]) -> None:
    by = ("--by", "tenant,model")
    table, as_json, as_csv = await asyncio.gather(
        millrace("cost", *by, **stack),
        millrace("cost", *by, "--format", "json", **stack),
        millrace("cost", *by, "--format", "csv", **stack),
    )
    nano = sum(event.cost_nano for event in EVENTS)
    groups = {(event.tenant, event.model) for event in EVENTS}
    assert {(row["tenant"], row["model"]) for row in as_json.json} == groups
    assert sum(row["cost_nano"] for row in as_json.json) == nano
    assert sum(row["requests"] for row in as_json.json) == len(EVENTS)
    assert sum(row["waste_runs"] for row in as_json.json) == len(WASTE)
    assert [{name: str(value) for name, value in row.items()} for row in as_json.json] == as_csv.csv
    last = next(line for line in table.out.splitlines() if line.startswith("total"))
    assert last.split()[1] == f"{len(EVENTS)}"
    assert last.endswith(f"${nano // 10**9:,}.{nano % 10**9:09d}")
    assert f"Waste, never billed: {len(WASTE)} runs" in table.out


@pytest.mark.parametrize("columns", [80, 120])
async def test_tables_fit_the_terminal_and_numbers_are_whole(stack: dict[str, str], columns: int) -> None:
    wide, request = await asyncio.gather(
        millrace("cost", "--by", "tenant,user,feature,model", "--rows", "9", columns=columns, **stack),
        millrace("request", RAN[0].idempotency_key, columns=columns, **stack),
    )
    for output in (wide, request):
        assert output.status == 0
        assert max(len(line) for line in output.out.splitlines()) <= columns
    money = [line.rstrip().rpartition("$")[2] for line in wide.out.splitlines() if "$" in line]
    assert len(money) == 10
    assert len({len(text.partition(".")[2]) for text in money}) == 1
    assert "more groups, which the totals include" in wide.out


async def test_cost_of_a_period(stack: dict[str, str]) -> None:
    none, all_, some = await asyncio.gather(
        millrace("cost", "--since", "1h", **stack),
        millrace("cost", "--since", "2025-10-09", "--until", "2025-10-10T00:00+00:00", "--format", "json", **stack),
        millrace("cost", "--until", "2025-10-09T08:53:22", "--by", "", "--format", "json", **stack),
    )
    assert "No requests in the ledger since" in none.out
    assert sum(row["requests"] for row in all_.json) == len(EVENTS)
    (row,) = some.json
    boundary = 1_760_000_002_000  # 2025-10-09T08:53:22Z
    assert row["requests"] == sum(event.event_time < boundary for event in EVENTS) > 0


async def test_sql_in_every_format(stack: dict[str, str]) -> None:
    query = "SELECT tenant, count() AS n, NULL AS x FROM usage GROUP BY tenant ORDER BY tenant"
    table, as_json, as_csv, own, ddl = await asyncio.gather(
        millrace("sql", query, **stack),
        millrace("sql", query + ";", "--format", "json", **stack),
        millrace("sql", query, "--format", "csv", **stack),
        millrace("sql", "SELECT count() FROM usage FORMAT TSV", **stack),
        millrace("sql", "DESCRIBE usage", **stack),
    )
    tenants = sorted({event.tenant for event in EVENTS})
    assert [row["tenant"] for row in as_json.json] == tenants
    assert sum(row["n"] for row in as_json.json) == len(EVENTS) + len(WASTE)
    assert [row["tenant"] for row in as_csv.csv] == tenants
    assert [line.split()[0] for line in table.out.splitlines()] == ["tenant", *tenants]
    assert own.out == f"{len(EVENTS) + len(WASTE)}\n"
    assert "nano-dollars" in ddl.out


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DROP TABLE usage", "Only statements that read"),
        ("SELECT 1; SELECT 2", "Multi-statements are not allowed"),
        ("SELECT nope FROM usage", "Unknown expression identifier `nope`"),
        ("SELECT file('/etc/passwd')", "Function file is not allowed"),
        ("SELECT 1 SETTINGS max_threads = 8", "Cannot modify 'max_threads' setting in readonly mode"),
    ],
)
async def test_sql_that_may_not_run_is_one_sentence(stack: dict[str, str], statement: str, says: str) -> None:
    output = await millrace("sql", statement, **stack)
    assert (output.status, output.out) == (1, "")
    assert output.err.startswith("millrace: ")
    assert says in output.err
    assert output.err.count("\n") == 1
    assert "DB::Exception" not in output.err


async def test_a_requests_life(stack: dict[str, str]) -> None:
    event = RAN[0]
    table, as_json = await asyncio.gather(
        millrace("request", event.idempotency_key, **stack),
        millrace("request", event.idempotency_key, "--tenant", event.tenant, "--format", "json", **stack),
    )
    text = table.out
    assert text.splitlines()[0].startswith(f"{event.tenant}:{event.idempotency_key}  succeeded")
    steps = ["accepted", "deduped", "admitted", "started", "first token", "finished", "recorded", "in the ledger"]
    positions = [text.index(f"\n{step}") for step in steps]
    assert positions == sorted(positions)
    for fact in (
        f"requests {event.claim}",
        f"rule simple, score {event.complexity:.3f}",
        "53 ms",
        f"{event.prompt_tokens:,} prompt",
        f"{event.model} 2.5 (asked for auto)",
        f"${event.cost_nano // 10**9}.{event.cost_nano % 10**9:09d}, price version 2026-11-22",
        "usage 0.",
    ):
        assert fact in text, fact
    assert "wasted run" in text
    usage, waste = as_json.json
    assert [step["step"] for step in usage["steps"]] == steps
    assert usage["steps"][4]["since_accepted_ms"] == 53
    assert usage["cost_nano"] == event.cost_nano
    assert waste["kind"] == UsageKind.WASTE


async def test_a_request_that_is_not_in_the_ledger(stack: dict[str, str]) -> None:
    unknown, silent = await asyncio.gather(
        millrace("request", "no-such-key", **stack),
        millrace("request", "no-such-key", "--tenant", "acme", **stack),
    )
    assert (unknown.status, silent.status) == (1, 1)
    assert unknown.err.startswith("millrace: no-such-key is not in the ledger. With --tenant ")
    assert silent.err == "millrace: The streams didn't say how it stands: is the stack running?\n"


@pytest.mark.broker
@pytest.mark.parametrize("format_", ["table", "json"])
async def test_a_request_that_still_runs(stack: dict[str, str], settings: Settings, format_: str) -> None:
    """Two questions, answered as dedupe does: how it stands, and that there is none."""
    answers = {
        b"acme:running": (b"state", {"id": "running", "status": "in_progress", "model": "small", "created_at": 1}),
        b"acme:unknown": (b"error", {"error": {"message": "No such request."}}),
    }
    kafka = {name.upper(): str(getattr(settings, name)) for name in ("kafka_bootstrap_servers", "topic_prefix")}
    environment = stack | {f"MILLRACE_{name}": value for name, value in kafka.items()}
    topic = Topics.of(settings).requests

    async def answer(count: int) -> None:
        async with (
            AIOKafkaConsumer(topic, **client_options(settings), auto_offset_reset="earliest") as consumer,
            AIOKafkaProducer(**producer_options(settings)) as producer,
        ):
            for _ in range(count):
                asked = await consumer.getone()
                assert (asked.value, header(asked.headers, "ce_type")) == (b"", b"millrace.lookup.v1")
                kind, value = answers[asked.key]
                replies, _, partition = dict(asked.headers)["reply-to"].decode().partition("/")
                headers = [("kind", kind), ("in-reply-to", dict(asked.headers)["ce_id"])]
                await producer.send(
                    replies, json.dumps(value).encode(), key=asked.key, headers=headers, partition=int(partition)
                )

    running, unknown, _ = await asyncio.gather(
        millrace("request", "running", "--tenant", "acme", "--format", format_, **environment),
        millrace("request", "unknown", "--tenant", "acme", **environment),
        asyncio.wait_for(answer(2), 30),
    )
    if format_ == "json":
        (state,) = running.json
        assert (state["status"], state["in_ledger"]) == ("in_progress", False)
    else:
        assert running.out.startswith("acme:running  in_progress")
        assert "Not in the ledger yet" in running.out
    assert unknown.err == ("millrace: There is no request unknown of tenant acme, neither in the ledger nor running.\n")


async def test_when_nothing_runs_one_sentence_says_so(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "dead").mkdir()
    (tmp_path / "server").mkdir()
    write_stack(tmp_path / "dead", dead)
    write_stack(tmp_path / "server", None)
    none, silent, elsewhere, server, wrong = await asyncio.gather(
        millrace("cost", "--data-dir", str(tmp_path)),
        millrace("sql", "SELECT 1", "--data-dir", str(tmp_path / "dead")),
        millrace("request", "k", "--data-dir", str(tmp_path / "server")),
        millrace("cost", MILLRACE_CLICKHOUSE_URL=dead.replace("http://", "http://user:secret@")),
        millrace("cost", MILLRACE_CLICKHOUSE_URL="clickhouse.example"),
    )
    assert none.err == f"millrace: No stack is running on the data folder {tmp_path}: start one with `millrace up`.\n"
    assert silent.err == f"millrace: ClickHouse at {dead} doesn't answer.\n"
    assert "name it in MILLRACE_CLICKHOUSE_URL" in elsewhere.err
    assert server.err == f"millrace: ClickHouse at {dead.removeprefix('http://')} doesn't answer.\n"
    assert "must look like https://user@host:8443/database" in wrong.err
    assert {output.status for output in (none, silent, elsewhere, server, wrong)} == {1}


async def test_a_ledger_without_tables(query_port: int) -> None:
    output = await millrace(
        "cost", MILLRACE_CLICKHOUSE_URL=f"http://127.0.0.1:{query_port}", MILLRACE_CLICKHOUSE_DATABASE="system"
    )
    assert output.err == "millrace: The ledger has no tables yet: `millrace analytics` makes them when it starts.\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--by", "colour"), "Cost can be split by"),
        (("--since", "yesterday"), "'yesterday' is no time"),
        (("--since", "1h", "--until", "2h"), "--since must be before --until"),
        (("--only", "tenant"), "should be NAME=VALUE"),
        (("--format", "parquet"), "name a file with --output"),
    ],
)
async def test_options_that_do_not_fit(stack: dict[str, str], arguments: tuple[str, ...], says: str) -> None:
    output = await millrace("cost", *arguments, **stack)
    assert output.status == 1
    assert says in output.err


async def test_cost_of_some_by_tags_into_a_file(stack: dict[str, str], tmp_path: Path) -> None:
    some = [event for event in EVENTS if event.tags.get("team") == "search" and event.lane == "batch"]
    file = tmp_path / "cost.parquet"
    options = ("--by", "tenant,hour", "--only", "tag:team=search", "--only", "lane=batch")
    by_sql = tmp_path / "sql.parquet"
    written, as_csv, queried = await asyncio.gather(
        millrace("cost", *options, "--output", str(file), **stack),
        millrace("cost", *options, "--format", "csv", **stack),
        millrace("sql", "SELECT tenant, sum(cost_nano) AS n FROM usage GROUP BY tenant", "-o", str(by_sql), **stack),
    )
    assert (queried.status, queried.out) == (0, "")
    assert sum(row["n"] for row in pq.read_table(by_sql).to_pylist()) == sum(event.cost_nano for event in EVENTS)
    assert (written.status, written.out, written.err) == (0, "", "")
    rows = pq.read_table(file).to_pylist()
    assert sum(row["requests"] for row in rows) == len(some)
    assert sum(row["cost_nano"] for row in rows) == sum(event.cost_nano for event in some)
    assert {type(row["hour"]) for row in rows} == {datetime}
    assert [row["hour"].isoformat() for row in rows] == [row["hour"] for row in as_csv.csv]


async def test_a_month_as_focus(stack: dict[str, str], tmp_path: Path) -> None:
    printed, written, wrong = await asyncio.gather(
        millrace("export", "focus", "--month", "2025-10", **stack),
        millrace("export", "focus", "--month", "2025-10", "-o", str(tmp_path / "month.parquet"), **stack),
        millrace("export", "focus", "--month", "October", **stack),
    )
    billed = sum(event.cost_nano for event in EVENTS)
    assert sum(Decimal(row["BilledCost"]) for row in printed.csv) * 10**9 == billed
    assert written.out == f"{len(printed.csv):,} charges of 2025-10 are in {tmp_path / 'month.parquet'}.\n"
    assert wrong.err == "millrace: 'October' is no month: write 2026-11.\n"


@pytest.mark.parametrize("report", ["savings", "margin", "reprice"])
async def test_every_report_is_a_file_too(stack: dict[str, str], tmp_path: Path, report: str) -> None:
    options = ["--since", "2025-10-01", *(["--prices", str(PRICES)] if report == "reprice" else [])]
    as_json, as_csv, written = await asyncio.gather(
        millrace(report, *options, "--format", "json", **stack),
        millrace(report, *options, "--format", "csv", **stack),
        millrace(report, *options, "-o", str(tmp_path / "report.parquet"), **stack),
    )
    assert (as_json.status, as_csv.status, written.status, written.out) == (0, 0, 0, "")
    rows = pq.read_table(tmp_path / "report.parquet").to_pylist()
    assert len(rows) == len(as_json.json) == len(as_csv.csv) > 0
    for of_file, of_json, of_csv in zip(rows, as_json.json, as_csv.csv, strict=True):
        assert list(of_file) == list(of_json) == list(of_csv)
        nano = {name: value for name, value in of_json.items() if name.endswith("_nano")}
        assert nano == {name: of_file[name] for name in nano} == {name: int(of_csv[name]) for name in nano} != {}


PRICES = Path(__file__).parents[2] / "contracts" / "prices.toml"
