"""A statement with its parameters written in, for people to read and to paste into `millrace sql`."""

import re
from collections.abc import Mapping
from typing import Any

_PLACE = re.compile(r"\{(\w+):(\w+(?:\([^{}]*\))?)\}")


def readable(statement: str, parameters: Mapping[str, Any]) -> str:
    """Places that no parameter fills stay as they are."""

    def written(place: re.Match[str]) -> str:
        return _literal(parameters[place[1]]) if place[1] in parameters else place[0]

    lines = [line.rstrip() for line in _PLACE.sub(written, statement).strip().splitlines()]
    return "\n".join(lines)


def _literal(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"map({', '.join(f'{_literal(k)}, {_literal(v)}' for k, v in value.items())})"
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
