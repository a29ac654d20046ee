"""How a block's lines come to ClickHouse: to a server over HTTP, to the embedded engine through a file."""

import tempfile
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Protocol

from clickhouse_connect.driver.binding import format_str

from analytics.clickhouse import Client

_FORMAT = "JSONEachRow"


class Handover(Protocol):
    """Blocking. Raises ClickHouseError."""

    def insert(self, table: str, lines: Iterable[bytes]) -> None:
        """`lines`: pieces of whole JSON lines, read once. What fails may have gone in as far as it came."""

    def close(self) -> None:
        """Leaves nothing behind."""


class ByHttp:
    def __init__(self, client: Client) -> None:
        self._client = client

    def insert(self, table: str, lines: Iterable[bytes]) -> None:
        self._client.raw_insert(table, insert_block=(piece for piece in lines), fmt=_FORMAT)

    def close(self) -> None:
        pass


class ByFile:
    """One file, written over again and again. clickhouse-connect would make one for each block, and the system's work
    for so many new pages takes longer than reading what is in them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._file: IO[bytes] | None = None

    def insert(self, table: str, lines: Iterable[bytes]) -> None:
        file = self._file = self._file or tempfile.NamedTemporaryFile(prefix="block-")  # noqa: SIM115 - until close()
        file.seek(0)
        length = sum(file.write(piece) for piece in lines)
        file.flush()
        file.truncate(length)
        self._client.command(f"INSERT INTO {table} FROM INFILE {format_str(file.name)} FORMAT {_FORMAT}")

    def close(self) -> None:
        if self._file:
            with suppress(FileNotFoundError):  # its folder may have been cleared
                self._file.close()
