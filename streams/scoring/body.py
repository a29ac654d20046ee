"""What an OpenAI body asks: the last question of the caller, and how often the caller has spoken."""

from typing import Any


def asked(fields: dict[str, Any], back: int = 0) -> tuple[str, int]:
    """The text of the last question, uncut, and the number of turns; or of the question so many turns before it."""
    prompt = fields.get("prompt")
    if isinstance(prompt, str):
        return prompt, 1
    messages = objects(fields.get("messages"))
    spoken = [message for message in messages if message.get("role") == "user"]
    spoken = spoken[: max(0, len(spoken) - back)]
    return _text(spoken[-1]) if spoken else "", len(spoken)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in objects(content)]
    return "\n".join(part for part in parts if isinstance(part, str))


def objects(value: Any) -> list[dict[str, Any]]:
    """The body was checked by whoever wrote its digest, and that may have been anybody."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
