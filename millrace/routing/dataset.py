"""Labelled questions: what was asked, and whether the weak and the strong model answered right. JSON lines."""

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from contracts.errors import ConfigError
from contracts.faults import first_fault


class Labelled(BaseModel):
    model_config = ConfigDict(frozen=True)

    subject: str = Field(alias="domain")
    prompt: str
    weak: StrictBool = Field(alias="weak_correct")
    strong: StrictBool = Field(alias="strong_correct")

    @property
    def gain(self) -> int:
        """What the strong model adds: 1, 0, or -1 where only the weak one was right."""
        return int(self.strong) - int(self.weak)


class Dataset(NamedTuple):
    rows: list[Labelled]
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ConfigError naming the line that doesn't fit, OSError when it can't be read."""
        document = path.read_bytes()
        rows = [_row(line, n, path) for n, line in enumerate(document.splitlines(), 1) if line.strip()]
        if not rows:
            raise ConfigError(f"{path} has no questions.")
        return cls(rows, hashlib.sha256(document).hexdigest())


def subject_weights(rows: list[Labelled]) -> list[float]:
    """Every subject counts the same, however many questions it has; 1 on average."""
    sizes = Counter(row.subject for row in rows)
    each = len(rows) / len(sizes)
    return [each / sizes[row.subject] for row in rows]


def folds(rows: list[Labelled], count: int, seed: int) -> list[set[str]]:
    """The subjects, dealt out: a fold leaves whole subjects out, never single rows."""
    subjects = sorted({row.subject for row in rows})
    random.Random(seed).shuffle(subjects)  # noqa: S311 - repeatable, no secret
    return [set(subjects[n::count]) for n in range(min(count, len(subjects)))]


def _row(line: bytes, number: int, path: Path) -> Labelled:
    try:
        return Labelled.model_validate_json(line)
    except ValidationError as error:
        where, what = first_fault(error)
        raise ConfigError(f"{path}, line {number}: {where}{': ' if where else ''}{what}.") from None
