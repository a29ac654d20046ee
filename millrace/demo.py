"""The main job, whole: start the stack, replay the shipped sample of real traffic, print the bill, stop."""

import asyncio
import os
import signal
import sys
from importlib.resources import files
from pathlib import Path

from aiokafka import AIOKafkaProducer

from contracts.errors import StackError
from contracts.kafka import producer_options
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.kafka_config import HOST
from millrace.keys import OPERATOR_TENANT, create_key
from millrace.load_settings import load_connected_settings, load_stack_settings
from millrace.ports import free_port, is_open
from millrace.stack_file import running_stack

SAMPLE = "samples/azure_llm_2023_conv_1000.csv"
SPEED = 10


async def demo(data_dir: Path | None, *, keep: bool) -> int:
    """Exit status: 0 when all was answered and the ledger agrees. With `keep` the stack runs on until Ctrl-C. SIGTERM
    raises CancelledError, like Ctrl-C, when the stack has stopped."""
    _on_sigterm_stop()
    folder = load_stack_settings(data_dir).data_dir
    options = ["--data-dir", str(folder)]
    stack = await asyncio.create_subprocess_exec(
        *_millrace("up", *options), stdout=asyncio.subprocess.PIPE, env=os.environ | _free_ports()
    )
    try:
        print(await _ready(stack), flush=True)  # noqa: T201 - this is what the command shows
        load = await asyncio.create_subprocess_exec(
            *_millrace("replay", str(files("millrace") / SAMPLE), "--speed", str(SPEED), *options)
        )
        status = await load.wait()
        if keep and status == 0:
            print(await _dashboard(data_dir), flush=True)  # noqa: T201
            print("The stack runs on; Ctrl-C stops it.", flush=True)  # noqa: T201
            await stack.wait()
    finally:
        if stack.returncode is None:
            stack.send_signal(signal.SIGTERM)
        await stack.wait()
    return status


def _on_sigterm_stop() -> None:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)


async def _dashboard(data_dir: Path | None) -> str:
    """The address that opens it, with a key of its own; and a dead letter, so that there is one to look at."""
    settings = load_connected_settings(data_dir)
    url = running_stack(load_stack_settings(data_dir).data_dir).dashboard_url
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        await producer.send_and_wait(Topics.of(settings).requests, b"this is no request", key=b"demo:dead-letter")
    key = (await create_key(settings, OPERATOR_TENANT, operator=True)).secret
    return f"dashboard {url}/#key={key}" if url else "The dashboard is off: MILLRACE_DASHBOARD."


def _millrace(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "millrace", *arguments]


async def _ready(stack: asyncio.subprocess.Process) -> str:
    """The line `ready http://…`. Raises StackError when the stack ends before it; it has said why on the terminal."""
    assert stack.stdout is not None
    line = (await stack.stdout.readline()).decode().strip()
    if not line.startswith("ready "):
        raise StackError("The stack did not start.")
    asyncio.get_running_loop().create_task(_drain(stack.stdout))
    return line


async def _drain(pipe: asyncio.StreamReader) -> None:
    while await pipe.readline():
        pass


def _free_ports() -> dict[str, str]:
    """A demo must not fail because another server has a port: take a free one instead of each that is taken."""
    services, stack = Settings(), load_stack_settings(None)
    wanted = {
        "INGRESS_PORT": services.ingress_port,
        "ANALYTICS_PORT": services.analytics_port,
        "KAFKA_PORT": stack.kafka_port,
    }
    return {f"MILLRACE_{name}": str(free_port()) for name, port in wanted.items() if port and is_open(HOST, port)}
