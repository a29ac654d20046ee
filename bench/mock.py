"""The least that an OpenAI-compatible server can do: a yardstick for the machine that the benchmark runs on."""

import asyncio
import sys

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 0,
        "model": "small",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 16}}],
        "usage": {"prompt_tokens": 60, "completion_tokens": 16, "total_tokens": 76},
    }
)

app = FastAPI()


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    orjson.loads(await request.body())
    return Response(ANSWER, media_type="application/json")


@app.get("/readyz")
async def ready() -> Response:
    return Response()


if __name__ == "__main__":
    config = uvicorn.Config(app, port=int(sys.argv[1]), log_level="error", access_log=False)
    asyncio.run(uvicorn.Server(config).serve())
