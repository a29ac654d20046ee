"""Plays streams and workers for tests of ingress: takes records of `requests`, answers with frames. Decides little."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from contracts.clock import now_ms
from contracts.envelope import Envelope, RequestType
from contracts.errors import IdempotencyKeyReused, MillraceError, RequestFinished, UnknownRequest
from contracts.frames import Frame, FrameKind
from contracts.headers import RawHeaders
from contracts.outcomes import Outcome
from ingress.frame import RawFrame
from tests.support import frames

Emit = Callable[[str, bytes, RawHeaders, bytes], Awaitable[None]]  # reply address, key, headers, value


@dataclass
class Asked:
    """One record of `requests`."""

    key: bytes
    value: bytes
    headers: dict[str, bytes]

    @property
    def envelope(self) -> Envelope:
        return Envelope.from_headers(self.headers)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(self.value)
        return body

    @property
    def prompt(self) -> str:
        return str(self.body["prompt"] if "prompt" in self.body else self.body["messages"][-1]["content"])


@dataclass
class Entry:
    fingerprint: bytes
    waiters: list[str]
    accepted_at: int = field(default_factory=now_ms)
    end: RawFrame | None = None


def echo(asked: Asked) -> list[RawFrame]:
    """Answers with the prompt, a word at a time when streamed."""
    words = [word + " " for word in asked.prompt.split(" ")]
    words[-1] = words[-1][:-1]
    if asked.headers["operation"] == b"chat":
        run, answer = frames.chat_run("a", words), frames.chat_answer(asked.prompt)
    else:
        run, answer = frames.text_run("a", words), frames.text_answer(asked.prompt)
    streamed = asked.headers.get("stream") == b"1"
    return [*(run if streamed else []), frames.final_of(run, answer)]


def failure(error: MillraceError, outcome: Outcome) -> RawFrame:
    retry_after_ms = int(error.retry_after * 1000) if error.retry_after else None
    frame = Frame(kind=FrameKind.ERROR, status=error.status, outcome=outcome, retry_after_ms=retry_after_ms)
    return frames.raw(frame, error.body())


@dataclass
class Pipeline:
    """`scenario` says what comes of a request: its frames, the last of them its end, or none to keep it waiting."""

    emit: Emit
    scenario: Callable[[Asked], Sequence[RawFrame]] = echo
    asked: list[Asked] = field(default_factory=list)
    runs: list[bytes] = field(default_factory=list)
    _entries: dict[bytes, Entry] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, key: bytes, value: bytes, headers: Iterable[tuple[str, bytes]]) -> None:
        asked = Asked(key, value, dict(headers))
        async with self._news:
            self.asked.append(asked)
            self._news.notify_all()
        if asked.envelope.ce_type is RequestType.REQUEST:
            await self._request(asked)
        elif asked.envelope.ce_type is RequestType.CANCEL:
            await self._cancel(asked)
        elif asked.envelope.ce_type is not RequestType.LEAVE:
            await self._inquiry(asked)

    async def seen(self, count: int = 1) -> list[Asked]:
        """Returns when that many records were asked."""
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: len(self.asked) >= count)
        return self.asked

    async def finish(self, key: bytes, played: Sequence[RawFrame]) -> None:
        """Frames for everybody who waits; the last may be the end."""
        entry = self._entries[key]
        for frame in played:
            if frame.terminal:
                entry.end = frame
            for address in entry.waiters:
                await self.emit(address, key, list(frame.headers.items()), frame.value)
        if entry.end is not None and entry.end.headers.get("outcome") == b"rejected":
            del self._entries[key]

    async def _request(self, asked: Asked) -> None:
        address, fingerprint = asked.envelope.reply_to or "", asked.headers["fingerprint"]
        entry = self._entries.get(asked.key)
        if entry is None:
            self._entries[asked.key] = Entry(fingerprint, [address])
            self.runs.append(asked.key)
            await self.finish(asked.key, self.scenario(asked))
        elif entry.fingerprint != fingerprint:
            await self._tell(asked, IdempotencyKeyReused("Another body."))
        elif entry.end is None:
            entry.waiters += [address] if address not in entry.waiters else []
        else:
            headers = {**entry.end.headers, "replayed": b"1", "in-reply-to": asked.headers["ce_id"]}
            await self.emit(address, asked.key, list(headers.items()), entry.end.value)

    async def _inquiry(self, asked: Asked) -> None:
        entry = self._entries.get(asked.key)
        if entry is None:
            await self._tell(asked, UnknownRequest("There is no such request."))
            return
        address = asked.envelope.reply_to or ""
        frame = Frame(
            kind=FrameKind.STATE,
            in_reply_to=asked.envelope.ce_id,
            outcome=_outcome(entry),
            deltas_at=entry.waiters[0],
            accepted_at=entry.accepted_at,
            fingerprint=entry.fingerprint.decode(),
            **_place(entry),
        )
        await self.emit(address, asked.key, frame.to_headers(), _state(asked.key, entry))
        if asked.envelope.ce_type is RequestType.ATTACH and address not in entry.waiters:
            entry.waiters.append(address)

    async def _cancel(self, asked: Asked) -> None:
        """What runs, a test ends when it likes."""
        entry = self._entries.get(asked.key)
        if entry is None or _outcome(entry) in (None, Outcome.CANCELLED):
            await self._inquiry(asked)
        else:
            await self._tell(asked, RequestFinished("It has ended already."))
        address = asked.envelope.reply_to or ""
        if entry and entry.end is None and address not in entry.waiters:
            entry.waiters.append(address)

    async def _tell(self, asked: Asked, error: MillraceError) -> None:
        frame = Frame(kind=FrameKind.ERROR, status=error.status, in_reply_to=asked.envelope.ce_id)
        await self.emit(asked.envelope.reply_to or "", asked.key, frame.to_headers(), error.body())


def _outcome(entry: Entry) -> Outcome | None:
    return Outcome(entry.end.headers["outcome"].decode()) if entry.end else None


def _place(entry: Entry) -> dict[str, Any]:
    if not entry.end:
        return {}
    return {name: entry.end.headers.get(name, b"0").decode() for name in ("run", "sequence", "position")}


def _state(key: bytes, entry: Entry) -> bytes:
    outcome = _outcome(entry)
    part = "response" if outcome and outcome.answered else "error"
    answer = {part: orjson.Fragment(entry.end.value)} if entry.end else {}
    state = {"id": key.decode().partition(":")[2], "object": "millrace.request", "status": outcome or "in_progress"}
    return orjson.dumps(state | answer)
