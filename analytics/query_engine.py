"""Reading queries on the embedded engine: handles of their own, read-only, with limits on time, memory and result."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from analytics import read_only
from analytics.clickhouse import Client, connect, database_of
from contracts.settings import Settings

Options = tuple[tuple[str, str], ...]

_MIB = 1 << 20
_IDLE_HANDLES = 8  # opening one takes about 8 ms
_FORMAT = re.compile(r"\sFORMAT `?(\w+)`?$")


@dataclass(frozen=True, slots=True)
class Query:
    """As a client asked it."""

    statement: str
    format: str | None = None  # when the statement names none; ClickHouse's default is TabSeparated
    database: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)  # in ClickHouse's escaped form, by name
    options: Options = ()  # engine settings, from options()


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    format: str


class QueryEngine:
    """Thread-safe; each query has a handle to itself while it runs."""

    def __init__(self, settings: Settings) -> None:
        """Blocking. The engine's folder must be open in this process already."""
        self._settings = settings
        self._limits = {
            "max_execution_time": settings.query_max_seconds,
            "max_memory_usage": settings.query_max_memory_mb * _MIB,
            "max_result_bytes": settings.query_max_result_mb * _MIB,
        }
        self._idle: list[tuple[Options, Client]] = []
        self._lock = threading.Lock()
        with self._handle(()) as client:
            self._sources = read_only.table_functions(client)

    def ask(self, query: Query) -> Answer:
        """Blocking, for up to the time limit. Raises Forbidden and ClickHouseError."""
        with self._handle(query.options) as client:
            client.database = query.database or database_of(self._settings)
            normal = read_only.normal_form(client, query.statement)
            read_only.check(normal, self._sources)
            own = _FORMAT.search(normal)
            parameters = {name: _Verbatim(value) for name, value in query.parameters.items() if f"{{{name}:" in normal}
            body = client.raw_query(normal, parameters=parameters, fmt=None if own else query.format)
            return Answer(body, own[1] if own else query.format or "TabSeparated")

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, client in idle:
            client.close()

    @contextmanager
    def _handle(self, options: Options) -> Iterator[Client]:
        client = self._take(options) or self._open(options)
        try:
            yield client
        except BaseException:
            client.close()  # the rest of a result that broke off would come with this handle's next answer
            raise
        self._give_back(options, client)

    def _take(self, options: Options) -> Client | None:
        with self._lock:
            found = next((item for item in self._idle if item[0] == options), None)
            if found:
                self._idle.remove(found)
        return found[1] if found else None

    def _give_back(self, options: Options, client: Client) -> None:
        with self._lock:
            self._idle.append((options, client))
            oldest = self._idle.pop(0)[1] if len(self._idle) > _IDLE_HANDLES else None
        if oldest:
            oldest.close()

    def _open(self, options: Options) -> Client:
        limits = {name: _smaller(str(most), dict(options).get(name)) for name, most in self._limits.items()}
        fixed = {
            "timeout_before_checking_execution_speed": "0",  # time by the clock, not by an estimate
            "result_overflow_mode": "throw",
            "os_threads_nice_value_query": "10",  # the sink goes first, where the system lets ClickHouse say so
        }
        return connect(self._settings, dict(options) | limits | fixed | {"readonly": "1"})


def _smaller(most: str, wanted: str | None) -> str:
    """0 means without limit in ClickHouse, and here the most there is."""
    return wanted if wanted and wanted.isdigit() and 0 < int(wanted) < int(most) else most


class _Verbatim:
    """A parameter that the client has escaped already: clickhouse-connect escapes `str` only."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __str__(self) -> str:
        return self._value
