"""Tags: `team=search,env=prod` in headers, a map in the ledger."""

from contracts.errors import InvalidRequest

MAX_TAGS = 32


def parse_tags(text: str) -> dict[str, str]:
    """A name without `=` gets an empty value. Raises InvalidRequest on an empty name or more than 32 tags."""
    tags: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = item.partition("=")
        if not name.strip():
            raise InvalidRequest("Tags are name=value, comma-separated.", param="tags")
        tags[name.strip()] = value.strip()
    if len(tags) > MAX_TAGS:
        raise InvalidRequest(f"At most {MAX_TAGS} tags.", param="tags")
    return tags


def format_tags(tags: dict[str, str]) -> str:
    """Commas can't be written in a tag: they become semicolons."""
    return ",".join(f"{name}={value}".replace(",", ";") for name, value in tags.items())
