"""What ingress promises over HTTP, in memory and on Kafka."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest

from contracts.errors import EngineFailed
from contracts.outcomes import Outcome
from ingress import completions
from tests.support.frames import chat_answer, chat_run, final_of, hear
from tests.support.ingress import CHAT, Api, chat
from tests.support.pipeline import Asked, failure


def silence(_: Asked) -> list[Any]:
    return []


def record_key(answer: httpx.Response) -> bytes:
    return f"acme:{answer.headers['idempotency-key']}".encode()


class TestRecord:
    """What is written on `requests`."""

    async def test_the_body_is_the_clients_own_bytes(self, api: Api) -> None:
        body = b'{ "model":"small",\n"messages":[{"role":"user","content":"h\\u00e9"}], "unknown": [1] }'
        async with api.http() as client:
            answer = await client.post(CHAT, content=body)
        [asked] = api.pipeline.asked
        assert asked.value == body
        assert asked.key == record_key(answer)

    async def test_the_envelope(self, api: Api) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        headers: dict[str, Any] = {
            "Millrace-User": "zoë".encode(),
            "Millrace-Feature": "search",
            "Millrace-Tags": "env=prod, team=a",
            "Millrace-Max-Cost": "0.005",
            "Millrace-Lane": "batch",
            "traceparent": trace,
        }
        async with api.http() as client:
            await client.post(CHAT, content=chat(user="bob", metadata={"team": "b", "x": "1"}), headers=headers)
        envelope = api.pipeline.asked[0].envelope
        assert (envelope.tenant, envelope.user, envelope.feature) == ("acme", "zoë", "search")
        assert envelope.tags == "team=a,x=1,env=prod"
        assert (envelope.api_key_id, envelope.lane, envelope.max_cost) == ("k1", "batch", 5_000_000)
        assert envelope.traceparent == trace
        assert envelope.ce_source.startswith("/ingress/")
        assert envelope.ce_type == "millrace.request.v1"

    async def test_attribution_in_the_body_serves_too(self, api: Api) -> None:
        async with api.http() as client:
            await client.post(CHAT, content=chat(user="bob", metadata={"feature": "chat", "x": "1"}))
        envelope = api.pipeline.asked[0].envelope
        assert (envelope.user, envelope.feature, envelope.tags) == ("bob", "chat", "x=1")

    async def test_the_tenant_is_never_the_callers_word(self, api: Api) -> None:
        async with api.http() as client:
            await client.post(
                CHAT, content=chat(tenant="other"), headers={"tenant": "other", "Millrace-Tenant": "other"}
            )
        [asked] = api.pipeline.asked
        assert asked.envelope.tenant == "acme"
        assert asked.key.startswith(b"acme:")

    async def test_each_post_has_an_id_of_its_own(self, api: Api) -> None:
        async with api.http() as client:
            for _ in range(2):
                await client.post(CHAT, content=chat(), headers={"Idempotency-Key": "own-id"})
        first, second = api.pipeline.asked
        assert first.key == second.key
        assert first.envelope.ce_id != second.envelope.ce_id


class TestIdempotency:
    async def test_a_replay_has_the_same_bytes_and_says_so(self, api: Api) -> None:
        async with api.http() as client:
            first, second = [
                await client.post(CHAT, content=chat(), headers={"Idempotency-Key": key})
                for key in ("again", '"again"')
            ]
        assert (first.status_code, first.content) == (second.status_code, second.content)
        assert "idempotent-replayed" not in first.headers
        assert second.headers["idempotent-replayed"] == "true"
        assert len(api.pipeline.runs) == 1

    async def test_a_streamed_replay_is_the_whole_answer(self, api: Api) -> None:
        async with api.http() as client:
            await client.post(CHAT, content=chat(), headers={"Idempotency-Key": "streamed-again"})
            second = await client.post(CHAT, content=chat(stream=True), headers={"Idempotency-Key": "streamed-again"})
        heard = hear(second.content)
        assert (heard.text, heard.roles, heard.finish_reasons, heard.done) == (
            "hello world",
            ["assistant"],
            ["stop"],
            True,
        )
        assert second.headers["idempotent-replayed"] == "true"

    async def test_another_body_under_the_key_is_422(self, api: Api) -> None:
        async with api.http() as client:
            await client.post(CHAT, content=chat("one"), headers={"Idempotency-Key": "taken"})
            second = await client.post(CHAT, content=chat("two"), headers={"Idempotency-Key": "taken"})
        assert second.status_code == 422
        assert second.json()["error"]["code"] == "idempotency_key_reused"

    async def test_callers_of_one_request_get_one_answer(self, api: Api) -> None:
        api.pipeline.scenario = silence
        async with api.http() as client:
            posts = [
                asyncio.create_task(
                    client.post(CHAT, content=chat(stream=streamed), headers={"Idempotency-Key": "shared"})
                )
                for streamed in (True, False, True)
            ]
            await api.pipeline.seen(3)
            run = chat_run("a", ["hello ", "world"])
            await api.pipeline.finish(b"acme:shared", [*run[1:], final_of(run, chat_answer("hello world"))])
            first, second, third = await asyncio.gather(*posts)
        assert hear(first.content).text == hear(third.content).text == "hello world"
        assert second.json()["choices"][0]["message"]["content"] == "hello world"
        assert len(api.pipeline.runs) == 1

    async def test_auto_is_a_key_for_each_body(self, api: Api) -> None:
        async with api.http() as client:
            answers = [
                await client.post(CHAT, content=chat(content), headers={"Idempotency-Key": "auto"})
                for content in ("same", "same", "other")
            ]
        keys = [answer.headers["idempotency-key"] for answer in answers]
        assert keys[0] == keys[1] != keys[2]
        assert len(api.pipeline.runs) == 2

    @pytest.mark.parametrize("key", ["", "x" * 256, "a b", "a\tb"])
    async def test_a_bad_key_is_400(self, api: Api, key: str) -> None:
        async with api.http() as client:
            answer = await client.post(CHAT, content=chat(), headers={"Idempotency-Key": key})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_idempotency_key"
        assert api.pipeline.asked == []

    async def test_two_keys_are_400(self, api: Api) -> None:
        async with api.http() as client:
            headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
            answer = await client.post(CHAT, content=chat(), headers=headers)
        assert answer.status_code == 400
        assert "one Idempotency-Key header" in answer.json()["error"]["message"]

    async def test_without_a_key_one_is_made(self, api: Api) -> None:
        async with api.http() as client:
            keys = {(await client.post(CHAT, content=chat())).headers["idempotency-key"] for _ in range(2)}
        assert len(keys) == 2


class TestRefusals:
    """What never reaches Kafka."""

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b"", "not valid JSON"),
            (b"{", "not valid JSON"),
            (b"[]", "must be a JSON object"),
            (b'{"model":"small"}', "messages"),
            (b'{"model":"small","messages":[]}', "messages"),
            (b'{"model":1,"messages":[{"role":"user","content":"x"}]}', "model"),
            (b'{"model":"small","messages":[{"role":"user","content":"x"}],"stream":"yes"}', "stream"),
            (b'{"model":"small","messages":[{"role":"user","content":"\xff"}]}', "not valid JSON"),
        ],
    )
    async def test_bad_bodies(self, api: Api, body: bytes, says: str) -> None:
        async with api.http() as client:
            answer = await client.post(CHAT, content=body, headers={"Idempotency-Key": "kept"})
        assert answer.status_code == 400
        assert says in answer.json()["error"]["message"]
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert answer.headers["idempotency-key"] == "kept"
        assert api.pipeline.asked == []

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("Millrace-Max-Cost", "cheap"),
            ("Millrace-Max-Cost", "-1"),
            ("Millrace-Max-Cost", "nan"),
            ("Millrace-Deadline", "soon"),
            ("Millrace-Deadline", "2026-11-22T18:00:00"),
            ("Millrace-Lane", "fast"),
            ("Millrace-Tags", "=x"),
            ("Millrace-User", "x" * 256),
        ],
    )
    async def test_bad_headers(self, api: Api, header: str, value: str) -> None:
        async with api.http() as client:
            answer = await client.post(CHAT, content=chat(), headers={header: value})
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
        assert api.pipeline.asked == []

    @pytest.mark.parametrize("declared", [True, False])
    async def test_too_large(self, api: Api, declared: bool) -> None:
        body = chat("x" * 5_000_000)

        async def parts() -> Any:
            for start in range(0, len(body), 65_536):
                yield body[start : start + 65_536]

        async with api.http() as client:
            answer = await client.post(CHAT, content=body if declared else parts())
            after = await client.post(CHAT, content=chat())
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"
        assert "100,000 bytes" in answer.json()["error"]["message"]
        assert after.status_code == 200

    @pytest.mark.parametrize("authorization", ["", "Bearer", "Basic dXNlcg==", "Bearer mr_nobody"])
    @pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/requests/x")])
    async def test_without_an_api_key(self, api: Api, authorization: str, method: str, path: str) -> None:
        async with httpx.AsyncClient(base_url=api.url) as client:
            headers = {"Authorization": authorization} if authorization else {}
            answer = await client.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"

    async def test_unknown_route_and_method(self, api: Api) -> None:
        async with api.http() as client:
            route, method = await client.get("/v1/nothing"), await client.get(CHAT)
        assert (route.status_code, method.status_code) == (404, 405)
        assert "no GET /v1/nothing" in route.json()["error"]["message"]
        assert "doesn't take GET, but POST" in method.json()["error"]["message"]
        assert method.headers["allow"] == "POST"


class TestWaiting:
    async def test_time_out_says_where_the_answer_will_be(self, api: Api) -> None:
        api.pipeline.scenario = silence
        async with api.http() as client:
            answer = await client.post(CHAT, content=chat(), headers={"Prefer": "wait=1"})
            key = answer.headers["idempotency-key"]
            assert answer.status_code == 504
            assert answer.json()["error"]["code"] == "still_running"
            assert key in answer.json()["error"]["message"]
            assert answer.headers["location"] == f"/v1/requests/{key}"
            assert answer.headers["x-should-retry"] == "false"  # its SDK has no key to retry with
            run = chat_run("a", ["later"])
            await api.pipeline.finish(record_key(answer), [final_of(run, chat_answer("later"))])
            state = (await client.get(answer.headers["location"])).json()
        assert state["status"] == "succeeded"
        assert state["response"]["choices"][0]["message"]["content"] == "later"

    async def test_time_out_with_the_callers_key_may_be_retried(self, api: Api) -> None:
        api.pipeline.scenario = silence
        async with api.http() as client:
            answer = await client.post(CHAT, content=chat(), headers={"Prefer": "wait=0", "Idempotency-Key": "mine"})
        assert answer.status_code == 504
        assert "x-should-retry" not in answer.headers

    async def test_a_stream_that_never_begins_times_out_the_same(self, api: Api) -> None:
        api.pipeline.scenario = silence
        async with api.http() as client:
            answer = await client.post(CHAT, content=chat(stream=True), headers={"Prefer": "wait=1"})
        assert answer.status_code == 504

    async def test_a_stream_that_stops_ends_with_an_error_event(self, api: Api) -> None:
        api.pipeline.scenario = lambda _: chat_run("a", ["hel", "lo"])[:2]
        async with api.http() as client:
            answer = await client.post(CHAT, content=chat(stream=True), headers={"Prefer": "wait=1"})
        heard = hear(answer.content)
        assert (answer.status_code, heard.text, heard.done) == (200, "hel", False)
        assert heard.error is not None
        assert heard.error["code"] == "still_running"
        assert answer.headers["idempotency-key"] in heard.error["message"]

    async def test_a_wait_is_cut_to_the_longest_allowed(self, api: Api) -> None:
        async with api.http() as client:
            answer = await client.post(CHAT, content=chat(), headers={"Prefer": "wait=9999"})
        assert answer.headers["preference-applied"] == "wait=60"


class TestAsync:
    async def test_202_then_fetch(self, api: Api) -> None:
        async with api.http() as client:
            accepted = await client.post(CHAT, content=chat(), headers={"Prefer": "respond-async"})
            state = await client.get(accepted.headers["location"], params={"wait": "5"})
        assert accepted.status_code == 202
        assert accepted.headers["preference-applied"] == "respond-async"
        assert accepted.json()["status"] == "in_progress"
        assert accepted.json()["id"] == accepted.headers["idempotency-key"]
        assert state.json()["status"] == "succeeded"
        assert state.json()["response"]["choices"][0]["message"]["content"] == "hello world"

    async def test_a_key_of_another_body_is_422_and_not_202(self, api: Api) -> None:
        headers = {"Prefer": "respond-async", "Idempotency-Key": "taken-async"}
        async with api.http() as client:
            posts = [await client.post(CHAT, content=chat(text), headers=headers) for text in ("one", "two", "one")]
        assert [answer.status_code for answer in posts] == [202, 422, 202]
        assert posts[1].json()["error"]["code"] == "idempotency_key_reused"

    async def test_a_202_doesnt_wait_for_what_nobody_says(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """The streams are away: Kafka has the request, and that is what 202 says."""
        monkeypatch.setattr(completions, "_VERDICT_SECONDS", 0.05)
        monkeypatch.setattr(api.pipeline, "_inquiry", AsyncMock())
        api.pipeline.scenario = silence
        headers = {"Prefer": "respond-async", "Idempotency-Key": "unheard"}
        async with api.http() as client:
            assert (await client.post(CHAT, content=chat(), headers=headers)).status_code == 202

    async def test_async_with_a_wait_answers_when_it_can(self, api: Api) -> None:
        prefer = {"Prefer": "respond-async, wait=1"}
        async with api.http() as client:
            answered = await client.post(CHAT, content=chat(), headers=prefer)
            api.pipeline.scenario = silence
            accepted = await client.post(CHAT, content=chat(), headers=prefer)
        assert (answered.status_code, accepted.status_code) == (200, 202)

    async def test_long_poll_ends_with_the_request(self, api: Api) -> None:
        api.pipeline.scenario = silence
        async with api.http() as client:
            accepted = await client.post(CHAT, content=chat(), headers={"Prefer": "respond-async"})
            poll = asyncio.create_task(client.get(accepted.headers["location"], params={"wait": "8"}))
            await api.pipeline.seen(2)
            run = chat_run("a", ["done"])
            await api.pipeline.finish(record_key(accepted), [*run, final_of(run, chat_answer("done"))])
            state = (await poll).json()
        assert state["status"] == "succeeded"
        assert state["response"]["choices"][0]["message"]["content"] == "done"

    async def test_long_poll_of_a_request_that_goes_on(self, api: Api) -> None:
        api.pipeline.scenario = silence
        async with api.http() as client:
            accepted = await client.post(CHAT, content=chat(), headers={"Prefer": "respond-async"})
            state = await client.get(accepted.headers["location"], params={"wait": "1"})
        assert (state.status_code, state.json()["status"]) == (200, "in_progress")

    async def test_a_failed_request_is_fetched_with_its_error(self, api: Api) -> None:
        api.pipeline.scenario = lambda _: [failure(EngineFailed("It broke."), Outcome.FAILED)]
        async with api.http() as client:
            failed = await client.post(CHAT, content=chat())
            state = await client.get(f"/v1/requests/{failed.headers['idempotency-key']}")
        assert failed.status_code == 500
        assert state.status_code == 200
        assert state.json()["status"] == "failed"
        assert state.json()["error"]["error"]["message"] == "It broke."

    async def test_keys_with_any_visible_character(self, api: Api) -> None:
        key = "a/b?c=%41#d:e+f"
        async with api.http() as client:
            accepted = await client.post(
                CHAT, content=chat(), headers={"Prefer": "respond-async", "Idempotency-Key": key}
            )
            state = await client.get(accepted.headers["location"], params={"wait": "5"})
        assert state.json()["id"] == key
        assert state.json()["status"] == "succeeded"

    async def test_an_unknown_request_is_404(self, api: Api) -> None:
        async with api.http() as client:
            answers = [await client.get("/v1/requests/nobody", params=params) for params in ({}, {"wait": "5"})]
        for answer in answers:
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "request_not_found"

    async def test_a_bad_wait_is_400(self, api: Api) -> None:
        async with api.http() as client:
            answer = await client.get("/v1/requests/x", params={"wait": "long"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "wait")


class TestHealth:
    async def test_live_and_ready(self, api: Api) -> None:
        async with httpx.AsyncClient(base_url=api.url) as client:
            answers = [await client.get(path) for path in ("/healthz", "/readyz")]
        assert [answer.status_code for answer in answers] == [200, 200]

    async def test_docs(self, api: Api) -> None:
        async with httpx.AsyncClient(base_url=api.url) as client:
            page, document = await client.get("/docs"), await client.get("/openapi.json")
        assert "swagger" in page.text
        assert document.json()["openapi"] == "3.1.0"
