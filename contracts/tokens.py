"""Token estimate before any tokenizer has seen the prompt."""

BYTES_PER_TOKEN = 4  # English prose on the common byte-pair encodings: 3.5 to 4.5


def estimate_tokens(text: str) -> int:
    """At least 1."""
    return len(text.encode()) // BYTES_PER_TOKEN + 1
