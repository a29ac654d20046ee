"""The schema: numbered SQL files, each applied once and recorded, safe to run again at any point."""

import re
from dataclasses import dataclass
from importlib.resources import files

import structlog

from analytics.clickhouse import Client, database_of
from contracts.settings import Settings

_log = structlog.get_logger()
_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_RECORD = """
CREATE TABLE IF NOT EXISTS migrations
(
    `number` UInt32 COMMENT 'of the SQL file',
    `name` String COMMENT 'of the SQL file',
    `applied_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when it had been applied'
)
ENGINE = MergeTree ORDER BY number COMMENT 'Which migrations this database has had.'
"""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    statements: tuple[str, ...]


def migrations() -> list[Migration]:
    """The shipped ones, by number."""
    found = [(match, file) for file in files("analytics.migrations").iterdir() if (match := _NAME.fullmatch(file.name))]
    return sorted(
        (Migration(int(match[1]), match[2], _statements(file.read_text())) for match, file in found),
        key=lambda migration: migration.number,
    )


def migrate(client: Client, settings: Settings) -> None:
    """Blocking. Afterwards the client's database is the ledger's, with every migration applied.

    A crash between a migration and its record runs it again, so each must be idempotent (`IF NOT EXISTS`).
    """
    database = database_of(settings)
    _create_database(client, database)
    client.database = database
    client.command(_RECORD)
    applied = {row[0] for row in client.query("SELECT number FROM migrations").result_rows}
    for migration in migrations():
        if migration.number not in applied:
            _apply(client, migration)


def _create_database(client: Client, database: str) -> None:
    exists = "SELECT count() FROM system.databases WHERE name = {name:String}"
    if not client.query(exists, parameters={"name": database}).result_rows[0][0]:
        client.command("CREATE DATABASE IF NOT EXISTS {name:Identifier} ENGINE = Atomic", {"name": database})


def _apply(client: Client, migration: Migration) -> None:
    for statement in migration.statements:
        client.command(statement)
    client.insert("migrations", [[migration.number, migration.name]], column_names=["number", "name"])
    _log.info("migration applied", number=migration.number, name=migration.name)


def _statements(sql: str) -> tuple[str, ...]:
    """A statement ends with a semicolon at the end of a line."""
    return tuple(part.strip() for part in re.split(r";\s*\n", sql + "\n") if part.strip())
