"""The `Prefer` header: how long a caller waits, and whether it waits at all. Source: RFC 7240 §4.1, §4.3."""

import re
from dataclasses import dataclass

from starlette.types import Scope

_PREFERENCE = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*(?:\"([^\"]*)\"|([^\s;,]*)))?[^,]*(?:,|$)")


@dataclass(frozen=True, slots=True)
class Preferences:
    respond_async: bool = False
    wait_seconds: int | None = None

    def applied(self) -> str:
        """Value of `Preference-Applied`."""
        wait = None if self.wait_seconds is None else f"wait={self.wait_seconds}"
        return ", ".join(filter(None, ("respond-async" if self.respond_async else None, wait)))


_NONE = Preferences()


def prefer(scope: Scope, most_seconds: float) -> Preferences:
    """What a request's headers prefer; the header may come several times."""
    values = [value for name, value in scope["headers"] if name == b"prefer"]
    return parse_prefer(b",".join(values).decode("latin-1"), most_seconds) if values else _NONE


def parse_prefer(header: str, most_seconds: float) -> Preferences:
    """A longer wait than allowed is cut to what is; what can't be understood is ignored, as the RFC has it."""
    found = {name.lower(): quoted or bare for name, quoted, bare in reversed(_PREFERENCE.findall(header))}
    wait = found.get("wait", "")
    return Preferences(
        respond_async="respond-async" in found,
        wait_seconds=min(int(wait), int(most_seconds)) if wait.isascii() and wait.isdigit() else None,
    )
