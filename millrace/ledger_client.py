"""The ledger as commands reach it: a ClickHouse server by settings, else the running stack's query port. Read-only."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analytics.clickhouse import ClickHouseError, Client, connect, database_of
from contracts.errors import MillraceError, StackError
from contracts.settings import Settings
from millrace.load_settings import load, load_stack_settings
from millrace.stack_file import running_stack

_PASSWORD_ERRORS = frozenset({194, 516})
_PREFIX = re.compile(r"^.*?(Code: \d+\. DB::Exception: )+", re.DOTALL)
_NAME = re.compile(r"\s*\([A-Z_]+\)\.?\s*$")
_NO_TABLE = frozenset({60, 81})


class LedgerError(MillraceError):
    """The ledger's answer to a statement that it can't or won't run."""

    code = "ledger_error"


@contextmanager
def ledger(data_dir: Path | None) -> Iterator[Client]:
    """A client within the ledger's database. Raises StackError when nothing answers, LedgerError on a failed query."""
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # its errors are told below
    settings = ledger_address(load(Settings), data_dir)
    try:
        client = connect(settings, {"readonly": "1"})
    except ClickHouseError as error:
        raise StackError(_unreachable(settings, error)) from error
    client.database = database_of(settings)
    try:
        yield client
    except ClickHouseError as error:
        raise LedgerError(_sentence(error)) from error
    finally:
        client.close()


def ledger_address(settings: Settings, data_dir: Path | None) -> Settings:
    """With the ClickHouse to ask: the one that is named, or the running stack's query port. Raises StackError."""
    if settings.clickhouse_url:
        return settings
    stack = running_stack(load_stack_settings(data_dir).data_dir)
    if stack.query_url is None:
        raise StackError("The running stack's ledger is on a ClickHouse server: name it in MILLRACE_CLICKHOUSE_URL.")
    return settings.model_copy(update={"clickhouse_url": stack.query_url})


def _unreachable(settings: Settings, error: ClickHouseError) -> str:
    address = (settings.clickhouse_url or "").rpartition("@")[2]
    if getattr(error, "code", None) in _PASSWORD_ERRORS:
        return f"ClickHouse at {address} wants the right password: set MILLRACE_CLICKHOUSE_PASSWORD."
    return f"ClickHouse at {address} doesn't answer."


def _sentence(error: ClickHouseError) -> str:
    """ClickHouse's own words, without codes, addresses and versions."""
    if getattr(error, "code", None) in _NO_TABLE and "usage" in str(error):
        return "The ledger has no tables yet: `millrace analytics` makes them when it starts."
    text = _PREFIX.sub("", str(error))
    for end in (" (for url ", " (version ", ". Expected one of", " In scope ", ": In scope ", ": While "):
        text = text.partition(end)[0]
    return " ".join(_NAME.sub("", text).split())
