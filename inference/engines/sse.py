"""Server-sent events, as OpenAI's API uses them. Source: https://html.spec.whatwg.org/#parsing-an-event-stream"""

from collections.abc import AsyncGenerator, AsyncIterable


async def sse_data(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The `data` of each event; comments and other fields are skipped. An event has one line of data."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
