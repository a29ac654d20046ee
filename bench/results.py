"""Where figures go: a table on the terminal, and bench/results/<name>.json."""

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


def publish(name: str, title: str, rows: list[dict[str, Any]]) -> Path:
    """Rows of one shape; their keys are the columns."""
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console(width=140).print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    machine = {"python": platform.python_version(), "cores": psutil.cpu_count(), "machine": platform.machine()}
    document = {"name": name, "at": datetime.now(UTC).isoformat(), "machine": machine, "rows": rows}
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return path


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
