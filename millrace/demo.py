"""The main job, whole: start the stack, replay the shipped sample of real traffic, print the bill, stop."""

import asyncio
import os
import signal
import sys
from importlib.resources import files
from pathlib import Path

from contracts.errors import StackError
from contracts.settings import Settings
from millrace.kafka_config import HOST
from millrace.load_settings import load_stack_settings
from millrace.ports import free_port, is_open

SAMPLE = "samples/azure_llm_2023_conv_1000.csv"
SPEED = 10


async def demo(data_dir: Path | None, *, keep: bool) -> int:
    """Exit status: 0 when all was answered and the ledger agrees. With `keep` the stack runs on until Ctrl-C."""
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
            print("The stack runs on; Ctrl-C stops it.", flush=True)  # noqa: T201
            await stack.wait()
    finally:
        if stack.returncode is None:
            stack.send_signal(signal.SIGTERM)
        await stack.wait()
    return status


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
