"""How the dashboard reads the ledger: on threads of its own, with read-only handles that are never the sink's."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

from analytics.clickhouse import Client, connect, database_of
from contracts.settings import Settings

T = TypeVar("T")
_MIB = 1 << 20


class Reading:
    """Questions beyond the threads wait for their turn. The embedded engine's folder must be open in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.query_concurrency, "dashboard")
        self._idle: SimpleQueue[Client] = SimpleQueue()

    async def ask(self, question: Callable[[Client], T]) -> T:
        """`question` is blocking. Raises what it raises, ClickHouseError above all."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._with_handle, question)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        while (client := self._take()) is not None:
            client.close()

    def _with_handle(self, question: Callable[[Client], T]) -> T:
        client = self._take() or self._open()
        try:
            answer = question(client)
        except BaseException:
            client.close()  # what is left of a result that broke off would come with this handle's next answer
            raise
        self._idle.put(client)
        return answer

    def _take(self) -> Client | None:
        try:
            return self._idle.get_nowait()
        except Empty:
            return None

    def _open(self) -> Client:
        limits = {} if self._settings.clickhouse_url else self._limits()
        client = connect(self._settings, limits | {"readonly": "1"})
        client.database = database_of(self._settings)
        return client

    def _limits(self) -> dict[str, str]:
        return {
            "max_execution_time": str(self._settings.query_max_seconds),
            "max_memory_usage": str(self._settings.query_max_memory_mb * _MIB),
            "os_threads_nice_value_query": "10",  # the sink goes first
        }
