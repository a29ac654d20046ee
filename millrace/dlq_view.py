"""Dead letters on the terminal."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console

from millrace.dlq import Letter
from millrace.tables import print_rows

_COLUMNS = ("id", "time", "stage", "tenant", "key", "attempts", "state", "reason")


def show_letters(letters: Sequence[Letter], format_: str, *, rows: int) -> None:
    """The newest `rows` of them."""
    shown = letters[-rows:]
    if format_ == "json":
        print_rows([_summary(letter) for letter in shown], (), format_)
        return
    print_rows([_summary(letter) for letter in shown], _COLUMNS, format_)
    if len(shown) < len(letters):
        Console(stderr=True).print(f"the newest {len(shown)} of {len(letters)}; --rows shows more")


def show_letter(letter: Letter, format_: str) -> None:
    """Everything, with the record as it came. What isn't UTF-8 is shown with replacement characters."""
    summary = _summary(letter)
    headers = [[name, value.decode(errors="replace")] for name, value in letter.headers]
    value = None if letter.record.value is None else letter.record.value.decode(errors="replace")
    if format_ == "json":
        document = summary | {"headers": headers, "value": value}
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    lines = [(name, str(content)) for name, content in summary.items()] + [("", ""), *((n, v) for n, v in headers)]
    width = max(len(name) for name, _ in lines)
    text = "\n".join(f"{name:{width}}  {content}".rstrip() for name, content in lines)
    sys.stdout.write(f"{text}\n\n{'(no value)' if value is None else value}\n")


def _summary(letter: Letter) -> dict[str, Any]:
    record, why = letter.record, letter.why
    return {
        "id": letter.id,
        "time": datetime.fromtimestamp(record.timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
        "stage": why.dead_letter_stage if why else "",
        "tenant": letter.tenant,
        "key": (record.key or b"").decode(errors="replace"),
        "attempts": why.dead_letter_attempts if why else 1,
        "outcome": why.dead_letter_outcome if why else "",
        "state": letter.handled.action if letter.handled else "open",
        "origin": f"{why.dead_letter_topic}/{why.dead_letter_partition}@{why.dead_letter_offset}" if why else "",
        "reason": why.dead_letter_reason if why else "its headers give none",
    }
