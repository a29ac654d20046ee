"""`millrace topics`: what is in Kafka, and how far each group is behind."""

# ruff: noqa: PLC0415 - keeps --help fast

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.commands.options import DataDir, Format

if TYPE_CHECKING:
    from contracts.settings import Settings
    from millrace.topic_report import TopicState


def topics(
    create: Annotated[bool, typer.Option("--create", help="First make those that are missing.")] = False,
    data_dir: DataDir = None,
    format_: Format = "table",
) -> None:
    """Show topics, partitions, records, and each consumer group's lag."""
    from millrace.load_settings import load_connected_settings
    from millrace.tables import print_rows

    states = asyncio.run(_topics(load_connected_settings(data_dir), create=create))
    if format_ == "json":
        rows = [{"topic": s.name, "partitions": s.partitions, "records": s.records, "lag": s.lag} for s in states]
    else:
        rows = [
            {"topic": s.name, "partitions": s.partitions or "missing", "records": s.records, "lag": _lag(s)}
            for s in states
        ]
    print_rows(rows, ("topic", "partitions", "records", "lag"), format_)


async def _topics(settings: "Settings", *, create: bool) -> list["TopicState"]:
    from contracts.catalogue import load_catalogue
    from contracts.topics import all_topics
    from millrace.topic_admin import ensure_topics
    from millrace.topic_report import describe_topics

    specs = all_topics(settings, load_catalogue(settings.routes_file))
    if create:
        await ensure_topics(settings, specs)
    return await describe_topics(settings, specs)


def _lag(state: "TopicState") -> str:
    return ", ".join(f"{group} {lag}" for group, lag in state.lag.items())
