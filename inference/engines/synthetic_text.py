"""What the synthetic engine says: words picked by the request's fingerprint, one token each."""

import hashlib
from typing import Any, NamedTuple

from contracts.envelope import Operation
from inference.engine import Job

MARK = "[synthetic]"  # the first word of every answer: nobody should take it for a model's
_VOCABULARY = """
water wheel river stone grain flour mill race sluice gate stream bank bridge cart road field
turns grinds flows carries lifts drops opens closes waits runs feeds holds sends brings keeps counts
slow steady deep clear cold bright heavy light quick quiet round broad narrow early late full
and then while under over beside before after through against toward until with from into again
"""
_WORDS = _VOCABULARY.split()


class Script(NamedTuple):
    """An answer, decided before its first token: `len(words)` is its completion tokens."""

    words: list[str]
    reason: str

    def text(self, start: int, end: int) -> str:
        """The text of tokens `start` to `end`; the pieces of an answer join to the whole of it."""
        piece = " ".join(self.words[start:end])
        return f" {piece}" if start and piece else piece


def write_script(job: Job, default_tokens: int, seed: bytes) -> Script:
    """`max_tokens` words (finish `length`) or, without it, 1 to `default_tokens` of them (finish `stop`). `seed` picks
    those that no prefix gives."""
    if job.max_tokens is None:
        digest = hashlib.blake2b(job.fingerprint.encode(), digest_size=4).digest()
        length = 1 + int.from_bytes(digest) % default_tokens
    else:
        length = job.max_tokens
    picks = hashlib.shake_128(seed).digest(length - 1)
    words = [MARK, *[_WORDS[pick & 63] for pick in picks]]
    if job.prefix:
        begun = job.prefix.text.split()
        words[: len(begun)] = begun
    script = Script(words, "stop" if job.max_tokens is None else "length")
    stop = job.body.get("stop")
    return _cut(script, [stop] if isinstance(stop, str) else stop) if stop else script


def _cut(script: Script, stops: list[str]) -> Script:
    text = " ".join(script.words)
    ends = [end for stop in stops if stop and (end := text.find(stop)) >= 0]
    return Script(text[: min(ends)].split(), "stop") if ends else script


def prompt_text(operation: Operation, body: dict[str, Any]) -> str:
    """What prefix caching compares: roles and text, in order."""
    if operation == "text_completion":
        return str(body.get("prompt", ""))
    return "\n".join(f"{message.get('role')}: {message.get('content')}" for message in body.get("messages", ()))
