"""One statement that reads; everything else is refused, however it is written."""

import re
from pathlib import Path

import httpx
import pytest

from analytics.read_only import Forbidden, check

SOURCES = frozenset({"file", "url", "s3", "remote", "numbers", "format", "values", "view", "python", "eval"})

READS = [
    "SELECT 1",
    "SELECT 1;",
    "SELECT 1 ; -- that was all",
    "select count() from usage",
    "WITH 1 AS x SELECT x",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "FROM usage SELECT count()",
    "SHOW TABLES",
    "SHOW CREATE TABLE usage",
    "DESCRIBE TABLE usage",
    "DESC usage",
    "EXPLAIN SELECT 1",
    "EXISTS TABLE usage",
    "SELECT ';', '--', '/*', 'file(''x'')', 'INTO OUTFILE'",
    "SELECT $$; DROP TABLE usage$$",
    'SELECT 1 AS `file`, 2 AS "url"',
    "SELECT number FROM numbers(3)",
    "SELECT format('{}-{}', 'a', 'b')",
    "SELECT user AS file FROM usage",
    "SELECT 1 FORMAT Null",
]

HOSTILE = [
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE usage",
    "SELECT 1 /* ; */ ; DROP TABLE usage",
    "INSERT INTO usage (tenant) VALUES ('x')",
    "INSERT INTO usage (tenant) SELECT 'x'",
    "INSERT INTO FUNCTION file('{out}', 'CSV', 'a Int8') SELECT 1",
    "WITH x AS (SELECT 1) INSERT INTO usage (tenant) SELECT 'x'",
    "ALTER TABLE usage DELETE WHERE 1",
    "DELETE FROM usage WHERE 1",
    "UPDATE usage SET cost_nano = 0 WHERE 1",
    "TRUNCATE TABLE usage",
    "DROP TABLE usage",
    "DROP DATABASE IF EXISTS default",
    "RENAME TABLE usage TO other",
    "OPTIMIZE TABLE usage FINAL",
    "DETACH TABLE usage",
    "CREATE TABLE x (a Int8) ENGINE = Memory",
    "CREATE FUNCTION f AS x -> x",
    "CREATE TEMPORARY TABLE x (a Int8)",
    "CREATE USER u",
    "GRANT ALL ON *.* TO default",
    "SET readonly = 0",
    "SET max_memory_usage = 0",
    "USE system",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "KILL QUERY WHERE 1",
    "KILL QUERY WHERE query_id != '' SYNC",
    "SELECT 1 PARALLEL WITH KILL QUERY WHERE 1",
    "SYSTEM SHUTDOWN",
    "SYSTEM STOP MERGES",
    "BACKUP DATABASE default TO File('{out}')",
    "RESTORE DATABASE default FROM File('{out}')",
    "EXECUTE IMMEDIATE 'SELECT 1'",
    "SELECT 1 INTO OUTFILE '{out}'",
    "SELECT 1 INTO OUTFILE '{out}' TRUNCATE FORMAT CSV",
    "SELECT 1 /**/INTO/**/OUTFILE/**/'{out}'",
    "SHOW TABLES INTO OUTFILE '{out}'",
    "EXPLAIN SELECT 1 INTO OUTFILE '{out}'",
    "SELECT file('/etc/passwd')",
    "SELECT `file`('/etc/passwd')",
    "SELECT \"file\"('/etc/passwd')",
    "SELECT file /* x */ ('/etc/passwd')",
    "SELECT file\n--\n('/etc/passwd')",
    "SELECT (SELECT file('/etc/passwd'))",
    "WITH (SELECT file('/etc/passwd')) AS x SELECT x",
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM FILE('/etc/passwd', 'LineAsString')",
    "SELECT * FROM `file`('/etc/passwd', 'LineAsString')",
    "SELECT * FROM view(SELECT * FROM file('/etc/passwd', 'LineAsString'))",
    "SELECT 1 WHERE 1 IN (SELECT * FROM file('/etc/passwd', 'LineAsString'))",
    "SELECT {f:Identifier}('/etc/passwd')",
    "DESCRIBE TABLE file('/etc/passwd')",
    "DESCRIBE url('http://127.0.0.1:9/', 'CSV')",
    "DESC TABLE s3('http://127.0.0.1:9/x')",
    "EXPLAIN SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')",
    "SELECT * FROM urlCluster('c', 'http://127.0.0.1:9/', 'LineAsString')",
    "SELECT * FROM s3('http://127.0.0.1:9/x', 'LineAsString')",
    "SELECT * FROM gcs('http://127.0.0.1:9/x', 'LineAsString')",
    "SELECT * FROM azureBlobStorage('x', 'y', 'z')",
    "SELECT * FROM hdfs('hdfs://127.0.0.1:9/x', 'CSV', 'a Int8')",
    "SELECT * FROM remote('127.0.0.1:9', system.one)",
    "SELECT * FROM remoteSecure('127.0.0.1:9', system.one)",
    "SELECT * FROM cluster('default', system.one)",
    "SELECT * FROM mysql('127.0.0.1:9', 'd', 't', 'u', 'p')",
    "SELECT * FROM postgresql('127.0.0.1:9', 'd', 't', 'u', 'p')",
    "SELECT * FROM mongodb('127.0.0.1:9', 'd', 't', 'u', 'p', 'a Int8')",
    "SELECT * FROM redis('127.0.0.1:9', 'k', 'k String')",
    "SELECT * FROM sqlite('/etc/passwd', 't')",
    "SELECT * FROM odbc('DSN=x', 'd', 't')",
    "SELECT * FROM jdbc('x', 'd', 't')",
    "SELECT * FROM iceberg('/etc')",
    "SELECT * FROM deltaLake('/etc')",
    "SELECT * FROM filesystem('/etc')",
    "SELECT * FROM executable('id', 'LineAsString', 'a String')",
    "SELECT * FROM python('secret')",
    "SELECT * FROM Python(secret)",
    "SELECT * FROM `Python`(secret)",
    "SELECT * FROM eval('DROP TABLE usage')",
    "SELECT * FROM loop(system.one)",
    "SELECT * FROM input('a Int8')",
    "SELECT aiGenerate('hello')",
    "SELECT AIGenerate('hello')",
    "SELECT showCertificate()",
    "CHECK TABLE usage",
    "WATCH usage",
    "BEGIN TRANSACTION",
    "",
    ";",
    "\x00SELECT 1",
    "SELECT 1\x00; DROP TABLE usage",
]


@pytest.mark.parametrize(
    ("normal", "allowed"),
    [
        ("SELECT 1", True),
        ("(SELECT 1) UNION ALL (SELECT 2)", True),
        ("SELECT 'file(' FROM usage", True),
        ("SELECT 'it\\'s file(' FROM usage", True),
        ("SELECT `file` FROM usage", True),
        ("SELECT file FROM usage WHERE (a = 1)", True),
        ("SELECT * FROM numbers(3)", True),
        ("SELECT `INTO OUTFILE` FROM usage", True),
        ("SELECT `file`('x')", False),
        ("SELECT * FROM Url('x')", False),
        ("SELECT 'a' INTO OUTFILE 'x'", False),
        ("KILL QUERY WHERE 1 ASYNC", False),
        ("", False),
    ],
)
def test_the_check_reads_the_normal_form(normal: str, allowed: bool) -> None:
    if allowed:
        check(normal, SOURCES)
    else:
        with pytest.raises(Forbidden):
            check(normal, SOURCES)


@pytest.mark.parametrize("statement", READS)
async def test_what_reads_runs(query_port: int, statement: str) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"http://127.0.0.1:{query_port}/", content=statement)
    assert (answer.status_code, answer.headers.get("x-clickhouse-exception-code")) == (200, None), answer.text


async def test_what_is_hostile_is_refused_and_nothing_happens(query_port: int, tmp_path: Path) -> None:
    secret = object()  # noqa: F841 - what python('secret') would find
    out = tmp_path / "out"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{query_port}") as http:
        before = (await http.post("/", content="SHOW TABLES")).text
        for template in HOSTILE:
            statement = template.replace("{out}", str(out))
            for answer in (
                await http.post("/", content=statement, params={"param_f": "file"}),
                await http.get("/", params={"query": statement, "param_f": "file"}),
            ):
                if statement.strip(";"):
                    assert answer.status_code >= 400, (statement, answer.text)
                    assert answer.headers["x-clickhouse-exception-code"].isdigit()
                assert "root:" not in answer.text
                assert not re.search("stack trace", answer.text, re.IGNORECASE)
        after = (await http.post("/", content="SHOW TABLES")).text
    assert "usage" in before.split()
    assert after == before
    assert not out.exists()
