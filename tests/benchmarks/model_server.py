"""A model's server that costs its callers what a real one does: the OpenAI routes, log-probabilities, LATENCY_S a call.

`python -m benchmarks.model_server PORT`, in a process of its own, so that its work counts for nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from typing import Any

from aiohttp import web

LATENCY_S = 0.2
_SCORES = (("best", -0.3), ("reasonable", -1.6), ("worst", -3.2), ("The", -9.0))


def main() -> None:
    """Serve until the process is ended."""
    application = web.Application(client_max_size=2**24)
    application.router.add_get("/v1/models", _models)
    application.router.add_post("/v1/chat/completions", _answer)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


async def _models(_request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "bench", "object": "model"}]})


async def _answer(request: web.Request) -> web.Response:
    asked = await request.json()
    loop = asyncio.get_running_loop()
    due = loop.create_future()
    loop.call_later(LATENCY_S, due.set_result, None)
    await due
    prompt = asked["messages"][0]["content"]
    number = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big")
    draft = f"Write an encyclopedia article about entry {number}, covering its history, its people and its climate."
    words = draft.split() if asked["max_tokens"] > 1 else ["best"]
    tokens = [_token(word, int(asked.get("top_logprobs") or 0)) for word in words]
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": " ".join(words)},
              "logprobs": {"content": tokens}}
    usage = {"prompt_tokens": len(prompt) // 3, "completion_tokens": len(words), "total_tokens": 0}
    return web.json_response({"id": "x", "object": "chat.completion", "created": 0, "model": "bench",
                              "choices": [choice], "usage": usage})


def _token(word: str, top: int) -> dict[str, Any]:
    shown = [{"token": token, "logprob": score, "bytes": None} for token, score in _SCORES[:top]]
    return {"token": word, "logprob": -0.3, "bytes": None, "top_logprobs": shown}


if __name__ == "__main__":
    main()
