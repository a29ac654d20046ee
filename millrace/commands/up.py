"""`millrace up`: the whole stack on this machine."""

import asyncio
from typing import Annotated, Literal

import typer

from millrace.commands.options import DataDir


def up(
    engine: Annotated[
        Literal["synthetic", "openai", "vllm"] | None,
        typer.Option(help="What answers.  [default: $MILLRACE_WORKER_ENGINE or synthetic]", show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="HTTP port; 0 takes a free one.  [default: $MILLRACE_INGRESS_PORT or 8080]",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
) -> None:
    """Start Kafka and every service on this machine; Ctrl-C stops them in order."""
    from millrace.load_settings import load_stack_settings  # noqa: PLC0415
    from millrace.stack import Stack, make_plan, run_stack  # noqa: PLC0415 - keeps --help fast

    plan = make_plan(load_stack_settings(data_dir), engine=engine, port=port, workers=workers)
    asyncio.run(run_stack(Stack(plan, say), show=show, say=say))


def show(text: str) -> None:
    typer.echo(text)


def say(line: str) -> None:
    typer.echo(line, err=True)
