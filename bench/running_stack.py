"""A stack of its own for a benchmark: free ports, a temporary data folder, stopped at the end."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from millrace.stack_file import StackFile, running_stack

ROUTES = Path(__file__).parent / "zero-compute.toml"


@asynccontextmanager
async def benchmark_stack(**settings: str) -> AsyncIterator[StackFile]:
    """`settings` are MILLRACE_… variables, in lower case and without the prefix."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        variables = {
            "routes_file": str(ROUTES),
            "kafka_port": "0",
            "analytics_port": "0",
            "tokens_per_minute": "1000000000",
        }
        environment = os.environ | {f"MILLRACE_{name.upper()}": value for name, value in (variables | settings).items()}
        stack = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "millrace", "up", "--port", "0", "--data-dir", folder),
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            assert stack.stdout is not None
            if not (await stack.stdout.readline()).startswith(b"ready "):
                sys.exit("The stack did not start.")
            yield running_stack(Path(folder))
        finally:
            if stack.returncode is None:
                stack.send_signal(signal.SIGTERM)
            await stack.wait()


def pids(stack: StackFile) -> dict[str, list[int]]:
    """Process ids by service name."""
    return {child.name: [child.pid] for child in stack.children if child.pid}
