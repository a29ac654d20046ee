"""The commands as a person types them."""

import json
from typing import get_args, get_type_hints

import pytest

from contracts.settings import EngineName, Settings
from millrace.commands.up import up
from millrace.ports import free_port
from tests.support.commands import Command, Ended


async def millrace(*arguments: object, settings: Settings | None = None) -> Ended:
    environment = {}
    if settings:
        environment = {
            "MILLRACE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "MILLRACE_TOPIC_PREFIX": settings.topic_prefix,
        }
    command = await Command.start("millrace", *arguments, environment=environment)
    return await command.ended()


async def test_help_names_every_command() -> None:
    ended = await millrace("--help")
    assert ended.status == 0
    for name in ("up", "topics", "keys", "ingress", "streams", "worker", "analytics"):
        assert f" {name} " in ended.out


async def test_help_imports_no_service_and_no_client() -> None:
    """What makes it fast: 0.15 s instead of 1."""
    program = "import sys, millrace.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    command = await Command.start("timeit", "-n1", "-r1", "-s", program, "pass")
    imported = set((await command.ended()).out.split())
    assert "typer" in imported
    assert imported.isdisjoint({"aiokafka", "faust", "fastapi", "pydantic", "clickhouse_connect", "httpx", "uvloop"})


def test_up_offers_the_engines_that_there_are() -> None:
    offered = get_args(get_args(get_type_hints(up)["engine"])[0])
    assert offered == get_args(EngineName)


async def test_a_mistyped_option_is_a_usage_error() -> None:
    ended = await millrace("up", "--workers", "0")
    assert ended.status == 2
    assert "--workers" in ended.err


@pytest.mark.broker
async def test_keys_from_creation_to_revocation(settings: Settings) -> None:
    created = await millrace("keys", "create", "--tenant", "acme", "--user", "ann", settings=settings)
    assert created.status == 0
    assert created.out.startswith("mr_")
    assert created.out.count("\n") == 1  # so that a script can take it as it is

    [key] = json.loads((await millrace("keys", "list", "--format", "json", settings=settings)).out)
    assert (key["tenant"], key["user"]) == ("acme", "ann")
    assert key["id"] in created.err

    revoked = await millrace("keys", "revoke", key["id"], settings=settings)
    assert revoked.out == f"{key['id']} of tenant acme is revoked\n"
    assert (await millrace("keys", "list", "--format", "json", settings=settings)).out == "[]\n"


@pytest.mark.broker
async def test_topics_as_json_and_as_a_table(settings: Settings) -> None:
    topics = json.loads((await millrace("topics", "--format", "json", settings=settings)).out)
    requests = {"topic": f"{settings.topic_prefix}requests", "partitions": 8, "records": 0, "lag": {}}
    assert requests in topics
    table = (await millrace("topics", settings=settings)).out.splitlines()
    assert table[0].split() == ["topic", "partitions", "records", "lag"]
    assert len(table) == 1 + len(topics)


@pytest.mark.broker
async def test_missing_topics_are_shown_and_can_be_made(settings: Settings) -> None:
    other = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}other-"})
    assert "missing" in (await millrace("topics", settings=other)).out
    assert "missing" not in (await millrace("topics", "--create", settings=other)).out


async def test_no_kafka_is_one_sentence() -> None:
    port = free_port()
    ended = await millrace("topics", settings=Settings(kafka_bootstrap_servers=f"127.0.0.1:{port}"))
    assert (ended.status, ended.err) == (1, f"millrace: No Kafka answers at 127.0.0.1:{port}.\n")
