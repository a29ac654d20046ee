"""Where in a TOML text a setting stands, so that what is wrong with it is said with its line."""

import re
from collections.abc import Iterator, Sequence

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_NAME = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")
_PART = re.compile(_NAME)

Place = tuple[str | int, ...]


def line_of(text: str, where: Sequence[str | int]) -> int | None:
    """The line of the setting at `where` ("rules", 1, "model"), or of the table it belongs to; None when neither is
    written anywhere. Of a value that spans lines, the first."""
    found, depth = None, 0
    for number, place in _places(text):
        if len(place) > depth and place == tuple(where[: len(place)]):
            found, depth = number, len(place)
    return found


def _places(text: str) -> Iterator[tuple[int, Place]]:
    """Each line that opens a table or sets a key, and its place. An array's tables are numbered as they come."""
    table: Place = ()
    last: dict[Place, int] = {}  # number of an array's newest table
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _within(_parts(header[2]), last, opens=header[1] == "[[")
            yield number, table
        elif key := _KEY.match(line):
            yield number, (*table, *_parts(key[1]))


def _within(parts: Sequence[str], last: dict[Place, int], *, opens: bool) -> Place:
    place: Place = ()
    for part in parts[:-1]:
        place = (*place, part)
        if place in last:
            place = (*place, last[place])
    place = (*place, parts[-1])
    if not opens:
        return place
    last[place] = last.get(place, -1) + 1
    return (*place, last[place])


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]
