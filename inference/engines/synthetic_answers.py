"""What the synthetic engine knows: of each question of a file, whether it answers it right."""

import hashlib
from typing import Any

import orjson

from contracts.catalogue import AnswerFile
from contracts.envelope import Operation
from contracts.errors import ConfigError

RIGHT, WRONG = "right", "wrong"  # its answer's second word


class Answers:
    """By question: the last message of a chat, or the prompt."""

    def __init__(self, given: AnswerFile) -> None:
        """Blocking. Raises ConfigError when the file isn't such a one."""
        try:
            rows = [orjson.loads(line) for line in given.file.read_bytes().splitlines() if line.strip()]
            self._right = {_digest(row["prompt"]): bool(row[given.field]) for row in rows}
        except OSError as error:
            raise ConfigError(f"{given.file} can't be read: {error.strerror}.") from None
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigError(f"{given.file} isn't JSON lines with prompt and {given.field}: {error!r}.") from None

    def right(self, operation: Operation, body: dict[str, Any]) -> bool | None:
        """None for a question that isn't in the file."""
        asked = body.get("prompt") if operation == "text_completion" else body["messages"][-1].get("content")
        return self._right.get(_digest(asked)) if isinstance(asked, str) else None


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
