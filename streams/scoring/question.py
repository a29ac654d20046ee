"""A prompt, read once: what is asked, the choices it lists, and its words. A bounded part of it, in linear time."""

import re
from typing import NamedTuple

HEAD, TAIL = 2_500, 1_000  # characters that are read of a long prompt

_CHOICE = re.compile(r"^[ \t]{0,8}\(?([A-E])[.)][ \t]{0,8}", re.MULTILINE)
_CLOSING = re.compile(r"\s{0,8}\bAnswer:\s{0,8}\Z")
_WORD = re.compile(r"\w+")


class Question(NamedTuple):
    stem: str
    choices: list[str]
    words: list[str]  # of the stem, as they were written


def read_question(prompt: str) -> Question:
    text = _CLOSING.sub("", shortened(prompt))
    starts = list(_CHOICE.finditer(text))
    first = max((n for n, match in enumerate(starts) if match.group(1) == "A"), default=len(starts))
    listed = starts[first:]
    if len(listed) < 2:
        return Question(text, [], words(text))
    ends = [match.start() for match in listed[1:]] + [len(text)]
    choices = [text[match.end() : end].strip() for match, end in zip(listed, ends, strict=True)]
    stem = text[: listed[0].start()]
    return Question(stem, choices, words(stem))


def shortened(prompt: str) -> str:
    """Its beginning and its end: what is asked stands at one of the two."""
    return prompt if len(prompt) <= HEAD + TAIL else f"{prompt[:HEAD]}\n{prompt[-TAIL:]}"


def words(text: str) -> list[str]:
    return _WORD.findall(text)
