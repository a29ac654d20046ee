"""Traces: when requests came and how long they were (columns TIMESTAMP, ContextTokens, GeneratedTokens)."""

import csv
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from contracts.errors import ConfigError


class Arrival(NamedTuple):
    at: float  # seconds after the first one
    prompt_tokens: int
    output_tokens: int


def read_trace(path: Path, limit: int | None = None) -> list[Arrival]:
    """Raises ConfigError with the line that doesn't fit."""
    try:
        with path.open(newline="") as file:
            rows = list(islice(csv.DictReader(file), limit))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from None
    arrivals = [_arrival(row, path, number) for number, row in enumerate(rows, start=2)]
    if not arrivals:
        raise ConfigError(f"{path} has no requests.")
    first = min(arrival.at for arrival in arrivals)
    return sorted(arrival._replace(at=arrival.at - first) for arrival in arrivals)


def _arrival(row: dict[str, str], path: Path, line: int) -> Arrival:
    try:
        at = datetime.fromisoformat(row["TIMESTAMP"][:26] + "+00:00").timestamp()
        return Arrival(at, int(row["ContextTokens"]), max(1, int(row["GeneratedTokens"])))
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{path}, line {line}: expected TIMESTAMP, ContextTokens, GeneratedTokens of the Azure LLM trace."
        ) from None
