"""`python -m tests.support.row_policy FOLDER`: what one user sees of the ledger in FOLDER, as JSON.

The embedded engine has no way to create users, but it obeys the row policies of a users file that a config.xml in the
working folder names: the same code as a server's.
"""

import json
import sys
from pathlib import Path
from typing import Any

import clickhouse_connect

_CONFIG = "<clickhouse><users_config>{users}</users_config></clickhouse>"
_USERS = """
<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
    <databases><millrace>{tables}</millrace></databases>
  </default></users>
</clickhouse>
"""
_TABLE = "<{name}><filter>{condition}</filter></{name}>"


def write_policy(folder: Path, tables: dict[str, str]) -> None:
    """The conditions by table, for the user `default` of an engine that is started in this folder."""
    users = folder / "users.xml"
    rows = "".join(_TABLE.format(name=name, condition=condition) for name, condition in tables.items())
    users.write_text(_USERS.format(tables=rows))
    (folder / "config.xml").write_text(_CONFIG.format(users=users))


def main(folder: Path) -> dict[str, Any]:
    """Tenants in each table and view that has them."""
    client = clickhouse_connect.get_client(interface="chdb", path=str(folder))
    client.database = "millrace"
    names = "SELECT table FROM system.columns WHERE database = 'millrace' AND name = 'tenant' ORDER BY table"
    tables = [name for (name,) in client.query(names).result_rows]
    seen = {table: f"SELECT groupUniqArray(tenant) FROM {table}" for table in tables}
    found = {table: sorted(client.query(sql).result_rows[0][0]) for table, sql in seen.items()}
    sums = "SELECT tenant, sum(cost_nano) FROM usage GROUP BY tenant"
    by_hand = client.query(f"{sums} SETTINGS optimize_use_projections = 0").result_rows
    return {"seen": found, "sums": client.query(sums).result_rows, "by hand": by_hand}


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1])), sys.stdout)
