"""How long rows stay: the setting, made the table's TTL. Projections lose with a row what they had of it."""

import re

import structlog

from analytics.clickhouse import Client
from contracts.errors import ConfigError
from contracts.settings import Settings

_log = structlog.get_logger()
_TTL = re.compile(r"\bTTL toDateTime\(event_time\) \+ toIntervalDay\((\d+)\)")
_CREATED = "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'usage'"


def check_retention(settings: Settings) -> None:
    """Raises ConfigError when rows would go before their records: a rebuild, or a redelivery, would bring them back."""
    days = settings.ledger_retention_days
    if days is not None and days * 24 < settings.retention_hours:
        raise ConfigError(
            f"MILLRACE_LEDGER_RETENTION_DAYS={days} is shorter than Kafka's MILLRACE_RETENTION_HOURS="
            f"{settings.retention_hours}: the log must go first."
        )


def apply_retention(client: Client, settings: Settings) -> None:
    """Blocking. Rows beyond it go as parts are merged. Raises ConfigError, ClickHouseError."""
    check_retention(settings)
    found = _TTL.search(client.query(_CREATED).result_rows[0][0])
    now, wanted = int(found[1]) if found else None, settings.ledger_retention_days
    if now == wanted:
        return
    if wanted is None:
        client.command("ALTER TABLE usage REMOVE TTL")
    else:
        client.command(f"ALTER TABLE usage MODIFY TTL toDateTime(event_time) + toIntervalDay({wanted:d})")
    _log.info("retention of the ledger changed", days=wanted, before=now)
