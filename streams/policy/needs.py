"""What a body asks of a model, and what of a conversation stands before its last question."""

import hashlib
from typing import Any

import orjson

from contracts.catalogue import Ability
from contracts.tokens import estimate_tokens
from streams.scoring.body import asked, objects

_IMAGES = frozenset({"image_url", "input_image"})


def needs(fields: dict[str, Any]) -> list[Ability]:
    """Abilities without which a model can't answer."""
    found: list[Ability] = []
    if fields.get("tools") or fields.get("functions"):
        found.append("tools")
    if _shows_images(fields):
        found.append("vision")
    response_format = fields.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        found.append("json_schema")
    return found


def opening(fields: dict[str, Any]) -> bytes | None:
    """All up to the first question, which every turn of a conversation repeats, hashed; None for what isn't a chat."""
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return None
    first = next((number for number, message in enumerate(messages) if _role(message) == "user"), None)
    if first is None:
        return None
    try:
        return hashlib.blake2b(orjson.dumps(messages[: first + 1]), digest_size=16).digest()
    except orjson.JSONEncodeError:  # nested too deeply
        return None


def told_before(fields: dict[str, Any], prompt_tokens: int) -> int:
    """Estimated tokens before the last question: what a prefix cache may hold. 0 in a conversation's first turn."""
    question, turns = asked(fields)
    return max(0, prompt_tokens - estimate_tokens(question)) if turns > 1 else 0


def _shows_images(fields: dict[str, Any]) -> bool:
    contents = [message.get("content") for message in objects(fields.get("messages"))]
    return any(str(part.get("type")) in _IMAGES for content in contents for part in objects(content))


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None
