"""Reconcile as a command runs it: addresses from the settings or the running stack, and the repair by whoever may
write."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from analytics.ledger import Ledger
from analytics.reconcile.collect import Window, reconcile
from analytics.reconcile.report import Report
from analytics.reconcile.usage_log import Offsets
from analytics.repair import Repaired, repair
from contracts.settings import Settings
from millrace.ledger_client import ledger
from millrace.load_settings import load_connected_settings
from millrace.maintenance_client import MaintenanceClient


async def run(data_dir: Path | None, window: Window, *, repair: bool = False) -> tuple[Report, Repaired | None]:
    """The report, and what was repaired before it. Raises StackError, LedgerError."""
    settings = load_connected_settings(data_dir)
    with ledger(data_dir) as client:
        report = await reconcile(settings, client, window)
        if not (repair and report.missing):
            return report, None
        repaired = await _repair(settings, data_dir, report.missing)
        return await reconcile(settings, client, window), repaired


async def _repair(settings: Settings, data_dir: Path | None, missing: Mapping[int, Sequence[Offsets]]) -> Repaired:
    """Analytics holds the embedded engine, so it must do it; on a server anybody with the password can."""
    if not settings.clickhouse_url:
        return await MaintenanceClient.of(settings, data_dir).repair(missing)
    with ThreadPoolExecutor(1, "ledger") as executor:
        loop = asyncio.get_running_loop()
        writer = await loop.run_in_executor(executor, Ledger.open, settings)
        try:
            return await repair(settings, writer, executor, missing)
        finally:
            await loop.run_in_executor(executor, writer.close)
