"""What a line of the log says of its request, and what it never says; and that a full disk ends nothing."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from contracts.errors import EngineFailed
from contracts.logs import concerning, concerns, configure_logging
from contracts.settings import Settings

PROMPT = "heliotrope marmalade"
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROGRAM = """
import logging, resource, structlog
from contracts.logs import configure_logging
from contracts.settings import Settings

def both(word):
    structlog.get_logger().warning(word)
    logging.getLogger("library").warning(word)

configure_logging(Settings())
both("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
both("while the disk is full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
both("after")
print("went on")
"""
Written = Callable[[], list[dict[str, Any]]]


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with log.open("ab") as stderr:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=stderr, check=False, timeout=60
        )
    assert (ended.returncode, ended.stdout) == (0, b"went on\n"), log.read_text()
    written = log.read_text()
    assert written.count("before") == 2
    assert written.count("after") == 2


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """In force while the test is set up: that is when logging is configured."""
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    root = logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, structlog.get_config()
    yield stream
    root.handlers, root.level = handlers, level
    structlog.configure(**ours)


@pytest.fixture
def written(stderr: io.StringIO) -> Written:
    configure_logging(Settings(log_format="json"))
    return lambda: [json.loads(line) for line in stderr.getvalue().splitlines()]


async def test_a_line_names_the_request_that_its_task_is_about(written: Written) -> None:
    async def serve(key: bytes, headers: list[tuple[str, bytes]]) -> None:
        concerns(key, headers)
        await asyncio.sleep(0)
        structlog.get_logger().info("served")

    await asyncio.gather(serve(b"acme:one", [("traceparent", TRACE)]), serve(b"acme", [("request-key", b"acme:two")]))
    structlog.get_logger().info("idle")
    lines = [(line["event"], line.get("key"), line.get("trace_id")) for line in written()]
    assert lines == [
        ("served", "acme:one", "0af7651916cd43dd8448eb211c80319c"),
        ("served", "acme:two", None),
        ("idle", None, None),
    ]


def test_what_is_no_key_is_not_written_down(written: Written) -> None:
    with concerning(PROMPT.encode(), [("traceparent", PROMPT.encode())]):
        structlog.get_logger().info("refused")
    [line] = written()
    assert line.keys() == {"event", "level", "timestamp"}


def test_a_librarys_line_is_as_ours(written: Written) -> None:
    with concerning(b"acme:one"):
        logging.getLogger("library").warning("it took %d s", 3)
    [line] = written()
    assert (line["event"], line["level"], line["logger"], line["key"]) == (
        "it took 3 s",
        "warning",
        "library",
        "acme:one",
    )
    assert line["timestamp"].endswith("Z")


def test_an_exception_says_where_and_not_what(written: Written) -> None:
    def parse(text: str) -> None:
        raise ValueError(f"can't parse {text!r}")

    def fail() -> None:
        try:
            parse(PROMPT)
        except ValueError as error:
            raise EngineFailed("The engine failed on this request.") from error

    try:
        fail()
    except EngineFailed as error:
        structlog.get_logger().warning("failed", exc_info=error)
        logging.getLogger("library").exception("failed")
    lines = written()
    assert len(lines) == 2
    for line in lines:
        assert "ValueError" in line["exception"]
        assert "in parse" in line["exception"]
        assert line["exception"].endswith("EngineFailed: The engine failed on this request.")
        assert PROMPT not in str(line)


@pytest.fixture
def readable(stderr: io.StringIO) -> Callable[[], list[str]]:
    configure_logging(Settings(log_format="text"))
    return lambda: stderr.getvalue().splitlines()


def test_readable_lines_have_the_same(readable: Callable[[], list[str]]) -> None:
    with concerning(b"acme:one", [("traceparent", TRACE)]):
        structlog.get_logger().info("served", tokens=3)
        logging.getLogger("library").warning("slow")
    [ours, theirs] = readable()
    for line in (ours, theirs):
        assert "key=acme:one" in line
        assert "trace_id=0af7651916cd43dd8448eb211c80319c" in line
    assert "tokens=3" in ours
