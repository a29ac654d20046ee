"""`python -m tests.support.fake_services DATA_DIR`: the stack with its real Kafka, and services that only exist.

A service that $FAKE_BROKEN names ends at once, as with a bad policy file; one that $FAKE_SILENT names is never ready.
"""

import asyncio
import os
import sys
from pathlib import Path

from contracts.runtime import main as run_service
from contracts.runtime import notify_ready
from contracts.settings import Settings
from millrace.load_settings import load_stack_settings
from millrace.stack import Stack, make_plan, run_stack


async def run(settings: Settings, *, stop: asyncio.Event) -> None:
    name = sys.argv[2]
    print(f"{name} uses {settings.kafka_bootstrap_servers}", flush=True)  # noqa: T201
    if name == os.environ.get("FAKE_BROKEN"):
        sys.exit("no such model")
    if name != os.environ.get("FAKE_SILENT"):
        notify_ready()
    await stop.wait()
    _note_stop(name)


def _note_stop(name: str) -> None:
    with Path(os.environ["FAKE_STOPPED"]).open("a") as file:
        file.write(f"{name}\n")


def command(service: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.fake_services", "--service", service]


def main() -> None:
    from millrace import cli  # noqa: PLC0415 - the services need none of it
    from millrace.commands.up import say, show  # noqa: PLC0415

    @cli.app.command()
    def fake(data_dir: Path, workers: int = 1) -> None:
        plan = make_plan(load_stack_settings(data_dir), port=0, workers=workers)
        asyncio.run(run_stack(Stack(plan, say, command), show=show, say=say))

    sys.argv.insert(1, "fake")
    cli.main()


if __name__ == "__main__":
    if sys.argv[1] == "--service":
        run_service(run, Settings())
    else:
        main()
