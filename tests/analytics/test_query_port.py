"""The query port answers as a ClickHouse server does, to clickhouse-connect and to plain HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from pydantic import SecretStr
from starlette.applications import Starlette

from analytics.health import Health
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.query_engine import QueryEngine
from analytics.query_port import application
from contracts.http_server import bind, serving
from contracts.settings import Settings
from tests.support.usage import as_records, as_values, make_events

EVENTS = make_events(500)


@pytest.fixture
async def http(query_port: int, ledger: Ledger) -> AsyncIterator[httpx.AsyncClient]:
    take_in(ledger, as_records(as_values(EVENTS)))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{query_port}", timeout=30) as http:
        yield http


@asynccontextmanager
async def client_of(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(app, bind("127.0.0.1", 0, "ANALYTICS")) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http,
    ):
        yield http


async def with_client(port: int, use: Callable[[Client], Any], **options: Any) -> Any:
    def connected() -> Any:
        with clickhouse_connect.get_client(host="127.0.0.1", port=port, **options) as client:
            return use(client)

    return await asyncio.to_thread(connected)


async def test_clickhouse_connect_reads_the_ledger(query_port: int, ledger: Ledger) -> None:
    take_in(ledger, as_records(as_values(EVENTS)))
    tenant = EVENTS[0].tenant
    mine = [event for event in EVENTS if event.tenant == tenant]

    def use(client: Client) -> None:
        query = "SELECT count(), sum(cost_nano), min(event_time) FROM usage WHERE tenant = {tenant:String}"
        (row,) = client.query(query, parameters={"tenant": tenant}).result_rows
        first = datetime.fromtimestamp(min(event.event_time for event in mine) / 1000, UTC)
        assert row == (len(mine), sum(event.cost_nano for event in mine), first)
        assert client.query("SELECT * FROM usage LIMIT 0").column_names[:2] == ("event_id", "event_time")
        assert client.command("SELECT count() FROM usage") == len(EVENTS)
        assert client.ping()
        frame = client.query_df("SELECT tenant, sum(cost_nano) AS cost FROM usage GROUP BY tenant")
        assert frame["cost"].sum() == sum(event.cost_nano for event in EVENTS)
        table = client.query_arrow("SELECT idempotency_key FROM usage")
        assert set(table.column(0).to_pylist()) == {event.idempotency_key for event in EVENTS}
        with client.query_row_block_stream("SELECT event_id FROM usage") as stream:
            assert sum(len(block) for block in stream) == len(EVENTS)

    await with_client(query_port, use, tz_mode="aware")


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "it's",
        "back\\slash",
        "tab\tline\n",
        "ünï\u2028",
        "{x:String}",
        "%s %(a)s",
        pytest.param("x" * 9000, id="long"),
    ],
)
async def test_parameters_arrive_as_they_were_given(query_port: int, text: str) -> None:
    def use(client: Client) -> Any:
        query = "SELECT {text:String}, {list:Array(String)}, '%', 'a' LIKE '%a%'"
        return client.query(query, parameters={"text": text, "list": [text, ""]}).result_rows

    assert await with_client(query_port, use) == [(text, [text, ""], "%", 1)]


async def test_the_statement_may_stand_in_the_address_or_the_body(http: httpx.AsyncClient) -> None:
    by_get = await http.get("/", params={"query": "SELECT 1"})
    by_post = await http.post("/", content="SELECT 1")
    by_both = await http.post("/", params={"query": "SELECT 1 +"}, content="1")
    by_form = await http.post("/", files={"query": (None, "SELECT {a:Int8}"), "param_a": (None, "3")})
    assert [answer.text for answer in (by_get, by_post, by_both, by_form)] == ["1\n", "1\n", "2\n", "3\n"]


async def test_formats(http: httpx.AsyncClient) -> None:
    query = "SELECT count() AS n FROM usage"
    own = await http.post("/", content=f"{query} FORMAT JSONEachRow")
    assert own.json() == {"n": 500}
    assert own.headers["x-clickhouse-format"] == "JSONEachRow"
    default = await http.post("/", content=f"{query};", params={"default_format": "JSONCompact"})
    assert default.json()["data"] == [[500]]
    by_header = await http.post("/", content=f"{query} -- all", headers={"X-ClickHouse-Format": "CSVWithNames"})
    assert by_header.text == '"n"\n500\n'
    assert by_header.headers["content-type"].startswith("text/csv")
    native = await http.post("/", content=query, params={"default_format": "Native"})
    assert native.headers["content-type"] == "application/octet-stream"


async def test_the_database_may_be_named(http: httpx.AsyncClient, embedded: Settings) -> None:
    current = await http.post("/", content="SELECT currentDatabase()")
    assert current.text.strip() == embedded.clickhouse_database
    other = await http.post("/", content="SELECT currentDatabase()", params={"database": "system"})
    assert other.text.strip() == "system"
    again = await http.post("/", content="SELECT currentDatabase()")
    assert again.text == current.text
    unknown = await http.post("/", content="SELECT 1", headers={"X-ClickHouse-Database": "nope"})
    assert (unknown.status_code, unknown.headers["x-clickhouse-exception-code"]) == (404, "81")


async def test_ping_and_an_empty_question(http: httpx.AsyncClient) -> None:
    assert (await http.get("/ping")).text == "Ok.\n"
    assert (await http.get("/")).text == "Ok.\n"


@pytest.mark.parametrize(
    ("statement", "code", "status"),
    [
        ("SELECT nope FROM usage", 47, 404),
        ("SELECT * FROM nope", 60, 404),
        ("SELEC 1,", 62, 400),
        ("SELECT toInt8('x')", 6, 400),
        ("SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1", 159, 408),
        ("SELECT groupArray(repeat('x', 100000)) FROM numbers(10000)", 241, 500),
        ("SELECT number FROM numbers(100000000)", 396, 500),
    ],
)
async def test_errors_and_limits_have_clickhouses_codes(
    http: httpx.AsyncClient, statement: str, code: int, status: int
) -> None:
    answer = await http.post("/", content=statement)
    assert (answer.headers.get("x-clickhouse-exception-code"), answer.status_code) == (str(code), status), answer.text
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    after = await http.post("/", content="SELECT 7")
    assert after.text == "7\n"


async def test_a_failed_query_raises_in_clickhouse_connect(query_port: int) -> None:
    with pytest.raises(DatabaseError) as caught:
        await with_client(query_port, lambda client: client.query("SELECT * FROM nope"))
    assert caught.value.code == 60


async def test_settings_that_shape_the_answer_are_taken(http: httpx.AsyncClient) -> None:
    params = {"output_format_json_quote_64bit_integers": "1", "max_result_rows": "10"}
    answer = await http.post("/", content="SELECT toInt64(1) AS x FORMAT JSONEachRow", params=params)
    assert answer.json() == {"x": "1"}
    too_many = await http.post("/", content="SELECT * FROM numbers(11)", params=params)
    assert too_many.headers["x-clickhouse-exception-code"] == "396"


@pytest.mark.parametrize(
    "name",
    [
        "max_threads",
        "format_schema",
        "output_format_schema",
        "allow_introspection_functions",
        "log_queries_min_type",
        "x",
    ],
)
async def test_other_settings_are_not(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.post("/", content="SELECT 1", params={name: "1"})
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (403, "164")


async def test_limits_can_be_lowered_and_not_raised(http: httpx.AsyncClient) -> None:
    query = "SELECT value FROM system.settings WHERE name = 'max_execution_time'"
    for wanted, found in (("1", "1"), ("1000", "2"), ("0", "2"), ("junk", "2")):
        answer = await http.post("/", content=query, params={"max_execution_time": wanted})
        assert answer.text.strip() == found


async def test_bad_requests(http: httpx.AsyncClient) -> None:
    long = await http.post("/", content=b"SELECT '" + b"x" * (1 << 20) + b"'")
    assert (long.status_code, long.headers["x-clickhouse-exception-code"]) == (413, "307")
    binary = await http.post("/", content=b"SELECT '\xff'")
    assert binary.status_code == 400
    format_ = await http.post("/", content="SELECT 1", params={"default_format": "CSV INTO OUTFILE 'x'"})
    assert format_.status_code == 400
    compressed = await http.post("/", content="SELECT 1", params={"compress": "1"})
    assert compressed.status_code == 501
    external = await http.post("/", files={"query": (None, "SELECT 1"), "data": ("data", b"1")})
    assert external.status_code == 501


async def test_queries_beside_each_other(http: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(http.post("/", content=f"SELECT {n}, sleep(0.02)") for n in range(40)))
    assert [answer.text for answer in answers] == [f"{n}\t0\n" for n in range(40)]


async def test_more_than_can_wait_are_told_to_come_again(embedded: Settings, ledger: Ledger, health: Health) -> None:
    engine = QueryEngine(embedded)
    settings = embedded.model_copy(update={"query_concurrency": 1})
    async with client_of(application(settings, health, engine)) as http:
        answers = await asyncio.gather(*(http.post("/", content="SELECT sleep(0.05)") for _ in range(60)))
    engine.close()
    codes = [answer.headers.get("x-clickhouse-exception-code") for answer in answers]
    assert set(codes) == {None, "202"}
    assert codes.count(None) >= 33


async def test_a_password_is_asked_for_when_one_is_set(embedded: Settings, ledger: Ledger, health: Health) -> None:
    settings = embedded.model_copy(update={"clickhouse_password": SecretStr("open sesame")})
    engine = QueryEngine(settings)
    ask = {"content": "SELECT 1"}
    async with client_of(application(settings, health, engine)) as http:
        without = await http.post("/", **ask)
        wrong = await http.post("/", **ask, auth=("default", "wrong"))
        garbled = await http.post("/", **ask, headers={"Authorization": "Basic !"})
        basic = await http.post("/", **ask, auth=("anyone", "open sesame"))
        header = await http.post("/", **ask, headers={"X-ClickHouse-User": "a", "X-ClickHouse-Key": "open sesame"})
        ping = await http.get("/ping")
        assert http.base_url.port
        rows = await with_client(http.base_url.port, lambda client: client.command("SELECT 3"), password="open sesame")
    engine.close()
    assert (without.status_code, without.headers["x-clickhouse-exception-code"]) == (401, "194")
    assert without.headers["www-authenticate"].startswith("Basic")
    assert (wrong.status_code, wrong.headers["x-clickhouse-exception-code"]) == (403, "516")
    assert garbled.status_code == 401
    assert (basic.text, header.text, ping.text, rows) == ("1\n", "1\n", "Ok.\n", 3)
    assert "sesame" not in wrong.text


async def test_readiness(http: httpx.AsyncClient, health: Health) -> None:
    health.ails("storing fails: OperationalError")
    down = await http.get("/readyz")
    assert (down.status_code, down.json()["problem"]) == (503, "storing fails: OperationalError")
    health.is_well()
    assert (await http.get("/readyz")).status_code == 200


async def test_with_a_server_there_is_only_readiness(embedded: Settings, health: Health) -> None:
    async with client_of(application(embedded, health, None)) as http:
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.post("/", content="SELECT 1")).status_code == 404
