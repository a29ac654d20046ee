"""One way to a ClickHouse client: a server by settings, or the embedded engine; the same SQL on both."""

import fcntl
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from contracts.errors import ConfigError, StackError
from contracts.settings import Settings

__all__ = ["ClickHouseError", "Client", "connect", "database_of"]

_TIMEOUT_SECONDS = 60  # longest wait for a server's answer
_UTC = {"session_timezone": "UTC"}  # the embedded engine would take the machine's


def database_of(settings: Settings) -> str:
    """The ledger's database: the one in the server's URL, else the setting."""
    path = urlsplit(settings.clickhouse_url or "").path.strip("/")
    return unquote(path.split("/")[0]) or settings.clickhouse_database


def connect(settings: Settings, engine_settings: dict[str, Any] | None = None) -> Client:
    """Blocking. A client serialises its calls: take one per role, and use it from one thread.

    `engine_settings` are set in their order (so `readonly` comes last). The client names no database yet. The embedded
    engine is one per process. Raises StackError when its folder can't be opened, ClickHouseError when a server fails.
    """
    options = engine_settings or {}
    if settings.clickhouse_url:
        return _server(settings, options)
    return _embedded(settings.clickhouse_path, _UTC | options)


def _server(settings: Settings, options: dict[str, Any]) -> Client:
    url = urlsplit(settings.clickhouse_url or "")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError("MILLRACE_CLICKHOUSE_URL must look like https://user@host:8443/database.")
    secret = settings.clickhouse_password
    return clickhouse_connect.get_client(
        interface=url.scheme,
        host=url.hostname,
        port=url.port or (8443 if url.scheme == "https" else 8123),
        username=unquote(url.username or "default"),
        password=secret.get_secret_value() if secret else unquote(url.password or ""),
        send_receive_timeout=_TIMEOUT_SECONDS,
        tz_mode="aware",
        settings=options,
    )


def _embedded(path: Path, options: dict[str, Any]) -> Client:
    _check_unlocked(path)
    if Path("config.xml").exists():
        raise StackError("The embedded ClickHouse would take this folder's config.xml for its own: start it elsewhere.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        return clickhouse_connect.get_client(interface="chdb", path=str(path), tz_mode="aware", settings=options)
    except (OSError, ClickHouseError) as error:
        reason = str(error).split(", Stack trace")[0]
        raise StackError(f"ClickHouse's folder {path} can't be opened: {reason}") from error


def _check_unlocked(path: Path) -> None:
    """The engine writes its reason to stderr only, so ask for its lock first. Raises StackError."""
    status = path / "status"
    if not status.exists() or _is_ours(status):
        return
    with status.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"ClickHouse's folder {path} is in use by another process; stop it, or set "
                "MILLRACE_CLICKHOUSE_PATH to another folder."
            ) from None


def _is_ours(status: Path) -> bool:
    """The engine writes `PID: <number>` first; another handle in this process shares it."""
    return status.read_text().startswith(f"PID: {os.getpid()}\n")
