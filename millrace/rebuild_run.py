"""Rebuild as a command runs it: by analytics where the engine is embedded, else here."""

import asyncio
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from analytics.ledger import Ledger
from analytics.rebuild import Bounds, Rebuilt, rebuild
from analytics.rebuild import swap as swap_tables
from contracts.errors import StackError
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.load_settings import load_connected_settings
from millrace.maintenance_client import MaintenanceClient
from millrace.topic_admin import kafka_admin


async def run(data_dir: Path | None, *, swap: bool = False) -> tuple[Rebuilt, int | None]:
    """The comparison, and how many rows came since and were taken over; None when nothing was swapped."""
    settings = load_connected_settings(data_dir)
    if settings.clickhouse_url:
        if swap:
            await check_quiet(settings)
        rebuilt = await rebuild(settings)
        return rebuilt, await asyncio.to_thread(_swap, settings, rebuilt.ends) if swap else None
    client = MaintenanceClient.of(settings, data_dir)
    rebuilt = await client.rebuild()
    return rebuilt, await client.swap(rebuilt.ends) if swap else None


def _swap(settings: Settings, ends: Bounds) -> int:
    ledger = Ledger.open(settings)
    try:
        return swap_tables(ledger.client, settings, ends)
    finally:
        ledger.close()


async def check_quiet(settings: Settings) -> None:
    """On a server any analytics may write at any time: only when none runs can the tables change places. Raises
    StackError."""
    async with kafka_admin(settings) as admin:
        members = await _members(admin, Topics.of(settings).sink_group)
    if members:
        services = "1 analytics service writes" if members == 1 else f"{members} analytics services write"
        raise StackError(f"{services} to this ledger: stop analytics for the swap; nothing is lost.")


async def _members(admin: AIOKafkaAdminClient, group: str) -> int:
    [answer] = await admin.describe_consumer_groups([group])
    return sum(len(found[5]) for found in answer.groups)
