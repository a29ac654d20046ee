"""kill -9 of streams between a request's two attempts: one answer, one bill, and the first attempt's row, once each."""

from pathlib import Path

import pytest

from contracts.completion import Escalation
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from tests.streams.actors import body
from tests.streams.live import head, live, running, streams_process
from tests.streams.test_escalate import ROUTES

pytestmark = pytest.mark.broker
KEYS = [f"acme:k{number}" for number in range(20)]


async def test_streams_die_while_requests_go_from_one_model_to_the_next(settings: Settings, tmp_path: Path) -> None:
    routes = tmp_path / "routes.toml"
    routes.write_text(ROUTES)
    settings = settings.model_copy(update={"routes_file": routes})
    first, second = (streams_process(settings, tmp_path, name) for name in ("first", "second"))
    async with live(settings) as around:
        around.works = False
        async with running(first):
            for key in KEYS:
                await around.ask(key, body(key, model="auto"))
            work = [await around.held(key) for key in KEYS]
            ended = Escalation(run="small", prompt_tokens=7, completion_tokens=3, finished_at=1, escalated="unsure")
            for record in work:
                headers = [*record.headers, *ended.to_headers()]
                await around.producer.send(around.topics.completions, record.value, key=record.key, headers=headers)
            await around.producer.flush()
            first.kill()
            await first.wait()
        async with running(second):
            seconds = [await around.held(key, "2") for key in KEYS]
            assert [record.value for record in seconds] == [record.value for record in work]
            for record in seconds:
                around.finish(record)
            for key in KEYS:
                assert head(await around.told(key, kind="final"), "escalated") == "unsure"
            for key in KEYS:
                reader, name = around.readers[around.topics.usage], b'"%b"' % key.partition(":")[2].encode()
                for kind in (b'"kind":"escalated"', b'"kind":"usage"'):  # a crash may make either come twice
                    await reader.arrived(
                        lambda record, name=name, kind=kind: name in record.value and kind in record.value
                    )
                events = [UsageEvent.model_validate_json(value) for value in await around.usage(key)]
                kinds = sorted(event.kind for event in events)
                assert kinds == [UsageKind.ESCALATED, UsageKind.USAGE], events
