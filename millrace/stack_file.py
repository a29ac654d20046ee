"""`stack.json` in the data folder: where the running stack answers, so that other commands find it."""

import os
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import StackError
from contracts.settings import Settings

_NAME = "stack.json"


class ChildState(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    pid: int | None = Field(description="None while it is being started again")
    log: Path
    metrics_url: str | None = Field(None, description="for Prometheus")


class StackFile(BaseModel):
    """Addresses and processes of one running stack."""

    model_config = ConfigDict(frozen=True)

    pid: int = Field(description="the process of `millrace up`")
    started: float = Field(description="its start, UNIX seconds: tells it from a later process with the same number")
    ready: bool
    url: str = Field(description="HTTP API")
    kafka: str = Field(description="bootstrap address")
    query_url: str | None = Field(description="read-only ClickHouse HTTP; None when a ClickHouse server is used")
    dashboard_url: str | None = Field(None, description="the dashboard; None when it isn't served")
    engine: str
    children: list[ChildState]

    def write(self, data_dir: Path) -> None:
        """Atomically: a reader sees the old file or the new one."""
        incoming = data_dir / f".{_NAME}.incoming"
        incoming.write_text(self.model_dump_json(indent=2))
        incoming.replace(data_dir / _NAME)

    def is_running(self) -> bool:
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 1.0
        except psutil.Error:
            return False


def remove_stack_file(data_dir: Path) -> None:
    (data_dir / _NAME).unlink(missing_ok=True)


def find_stack(data_dir: Path) -> StackFile | None:
    """The stack that runs on this data folder; None when there is none, however the last one ended."""
    try:
        stack = StackFile.model_validate_json((data_dir / _NAME).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stack if stack.is_running() else None


def running_stack(data_dir: Path) -> StackFile:
    """Raises StackError when no stack runs there."""
    stack = find_stack(data_dir)
    if stack is None:
        raise StackError(f"No stack is running on the data folder {data_dir}: start one with `millrace up`.")
    return stack


def connected_settings(data_dir: Path, settings: Settings | None = None) -> Settings:
    """For commands that talk to Kafka: what the environment names, else the stack that runs on the data folder."""
    settings = settings or Settings()
    stack = find_stack(data_dir)
    if stack is None or "kafka_bootstrap_servers" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"kafka_bootstrap_servers": stack.kafka})


def own_start_time() -> float:
    """UTC seconds."""
    return psutil.Process(os.getpid()).create_time()
