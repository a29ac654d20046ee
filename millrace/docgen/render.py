"""Text forms that don't change from run to run."""

import json
from typing import Any


def as_json(document: Any) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
