"""Which metrics and labels a PromQL expression names, as far as a tokenizer can tell."""

import re
from typing import NamedTuple

_KEYWORDS = {"and", "or", "unless", "offset", "bool"}
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"\{([^}]*)\}")
_GROUPINGS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGES = re.compile(r"\[[^\]]*\]")
_NAMES = re.compile(r"(?<![\w.$])[a-zA-Z_:][\w:]*(?![\w:]|\s*\()")  # a function's has a parenthesis behind it


class Named(NamedTuple):
    metrics: set[str]
    labels: set[str]


def names_in(expression: str) -> Named:
    text = _STRINGS.sub('""', expression)
    matchers = [matcher for matched in _MATCHERS.findall(text) for matcher in matched.split(",")]
    labels = [re.split(r"[=!]", matcher)[0] for matcher in matchers]
    labels += [label for group in _GROUPINGS.findall(text) for label in group.split(",")]
    for noise in (_MATCHERS, _GROUPINGS, _RANGES):
        text = noise.sub(" ", text)
    return Named(set(_NAMES.findall(text)) - _KEYWORDS, {label.strip() for label in labels if label.strip()})
