"""Whether what the engine wrote can be read again, asked before the offsets of it are committed.

On a disk that fills up the embedded ClickHouse (26.9) has acknowledged inserts and merges of which files were left
empty: data, or what only a start reads. fsync makes no difference. Opened anew it puts such a part aside. An insert's
rows are gone with it then; of a merge it takes the parts that were merged, if it still has them. So it is told to keep
those for a while (its own default is not at all, a server's 8 minutes), and each new part is looked at once, soon.
"""

from pathlib import Path

from clickhouse_connect.driver.exceptions import DatabaseError

from analytics.clickhouse import Client
from contracts.errors import StackError

_KEPT_SECONDS = 120  # what was merged; for a new start some seconds are enough
_MOST_BYTES = 256 << 20  # of a part: reading a larger one would hold up the sink for seconds
_PARTS = """SELECT name, path, bytes_on_disk FROM system.parts
WHERE active AND database = currentDatabase() AND table = {table:String}"""
_SETTING = f"old_parts_lifetime = {_KEPT_SECONDS}"
_CHECK = "CHECK TABLE `{table}` PART '{name}' SETTINGS check_query_single_value_result = 0"
_MERGED_AWAY = 232  # https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp


class PartDamaged(StackError):  # noqa: N818 - what it says is the error's name
    """Only a new start can help."""


class NewParts:
    """Of one table, since it was opened: the engine itself looks at those that it finds then."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table
        self._keep_merged()
        self._known = set(self._active())

    def check(self) -> None:
        """Looks at those that are new. Raises PartDamaged, or ClickHouseError."""
        active = self._active()
        for name in active.keys() - self._known:
            path, size = active[name]
            if fault := _emptied(path) or (self._unreadable(name) if size <= _MOST_BYTES else ""):
                raise PartDamaged(
                    f"Part {name} of the ledger was written and can't be read, as on a full disk ({fault}). The next "
                    "start puts it aside, and what was in it goes in again; `millrace reconcile` tells."
                )
        self._known = set(active)

    def _keep_merged(self) -> None:
        described = "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"
        if _SETTING not in self._client.query(described, {"table": self._table}).result_rows[0][0]:
            self._client.command(f"ALTER TABLE `{self._table}` MODIFY SETTING {_SETTING}")

    def _unreadable(self, name: str) -> str:
        """Why, or nothing. Nor when it was merged away meanwhile: what it went into is looked at next."""
        try:
            rows = self._client.query(_CHECK.format(table=self._table, name=name)).result_rows
        except DatabaseError as error:
            if error.code == _MERGED_AWAY:
                return ""
            raise
        return "; ".join(str(message) for _, is_passed, message in rows if not int(is_passed))

    def _active(self) -> dict[str, tuple[Path, int]]:
        rows = self._client.query(_PARTS, {"table": self._table}).result_rows
        return {str(name): (Path(str(path)), int(size)) for name, path, size in rows}


def _emptied(part: Path) -> str:
    """A file of it that is never empty. (A column's data may be, where it has a file of its own.)"""
    for file in part.rglob("*"):
        may_be = file.suffix == ".bin" and file.name != "data.bin"
        if not may_be and file.is_file() and not file.stat().st_size:
            return f"{file.relative_to(part)} is empty"
    return ""
