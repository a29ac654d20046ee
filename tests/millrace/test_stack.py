"""`millrace up` from the outside, with its real Kafka and stand-in services: start, faults, stop, refusals."""

import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from millrace.kafka_broker import KafkaBroker
from millrace.kafka_runtime import KafkaRuntime, java
from millrace.ports import free_port
from millrace.stack_file import StackFile, running_stack
from tests.support.commands import Command
from tests.support.processes import alive, gone

pytestmark = pytest.mark.broker
Up = Callable[..., Awaitable[Command]]


@pytest.fixture
async def fake_up(tmp_path: Path, kafka_runtime: KafkaRuntime) -> AsyncIterator[Up]:
    """Starts the stack on the test's folder and free ports; ends it at last, whatever the test did."""
    started = []

    async def up(*arguments: object, **environment: object) -> Command:
        ports = {"MILLRACE_KAFKA_PORT": 0, "MILLRACE_ANALYTICS_PORT": 0, "FAKE_STOPPED": tmp_path / "stopped"}
        command = await Command.start(
            "tests.support.fake_services", tmp_path / "data", *arguments, environment=ports | environment
        )
        started.append(command)
        return command

    yield up
    for command in started:
        await command.discard()


async def refused(*arguments: object, **environment: object) -> str:
    """What `millrace` says when it refuses: one line on standard error, nothing else, status 1."""
    command = await Command.start("millrace", *arguments, environment=environment)
    ended = await command.ended()
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1), ended
    return ended.err


def children(stack: StackFile) -> dict[str, int | None]:
    return {child.name: child.pid for child in stack.children}


async def test_up_is_ready_with_examples_and_stops_in_order(fake_up: Up, tmp_path: Path) -> None:
    command = await fake_up("--workers", 2)
    first = await command.until("ready ")
    stack = running_stack(tmp_path / "data")
    assert first == f"ready {stack.url}\n"
    shown = await command.until("kcat -C")
    assert "API key of tenant demo, shown this once: mr_" in shown
    assert f"curl -s {stack.url}/v1/chat/completions" in shown
    assert f"kcat -P -b {stack.kafka} -t requests -k demo:" in shown

    pids = children(stack)
    assert list(pids) == ["kafka", "ingress", "streams", "worker-1", "worker-2", "analytics"]
    assert stack.ready
    assert all(pid is not None and alive(pid) for pid in pids.values())
    targets = tmp_path / "data" / "prometheus" / "targets.json"
    told = {group["labels"]["process"]: group["targets"][0] for group in json.loads(targets.read_text())}
    assert {c.name: c.metrics_url for c in stack.children if c.metrics_url} == {
        name: f"http://{address}/metrics" for name, address in told.items()
    }
    assert told.keys() == pids.keys() - {"kafka"}
    log = tmp_path / "data" / "logs" / "worker-2.log"
    assert log.read_text() == f"worker uses {stack.kafka}\n"

    command.signal(signal.SIGTERM)
    ended = await command.ended()
    assert (ended.status, ended.err.splitlines()[-1]) == (0, "stopping")
    assert (tmp_path / "stopped").read_text().split() == ["ingress", "worker", "worker", "streams", "analytics"]
    assert not any(pid is not None and alive(pid) for pid in pids.values())
    assert not (tmp_path / "data" / "stack.json").exists()
    assert not targets.exists()


async def test_the_next_up_keeps_the_data_and_makes_no_second_key(fake_up: Up) -> None:
    for about_the_key in ("shown this once", "read your API key from $MILLRACE_API_KEY"):
        command = await fake_up()
        assert about_the_key in await command.until("API key")
        command.signal(signal.SIGINT)
        assert (await command.ended()).status == 0


async def test_a_child_that_dies_is_restarted_and_said_so(fake_up: Up, tmp_path: Path) -> None:
    command = await fake_up()
    await command.until("ready ")
    before = children(running_stack(tmp_path / "data"))
    for name in ("streams", "kafka"):
        pid = before[name]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        said = await command.until(f"{name} is ready again", err=True)
        assert f"{name} stopped (killed by SIGKILL); starting it again in 0.5 s\n" in said
    after = children(running_stack(tmp_path / "data"))
    assert {name for name in before if before[name] != after[name]} == {"streams", "kafka"}


async def test_kill_9_of_up_leaves_nothing_running_and_the_folder_free(fake_up: Up, tmp_path: Path) -> None:
    command = await fake_up()
    await command.until("ready ")
    pids = children(running_stack(tmp_path / "data"))
    command.signal(signal.SIGKILL)
    for pid in pids.values():
        assert pid is not None
        await gone(pid)
    again = await fake_up()
    await again.until("ready ")


async def test_a_second_stack_on_one_folder_is_refused_and_harms_nothing(fake_up: Up, tmp_path: Path) -> None:
    command = await fake_up()
    await command.until("ready ")
    said = await refused("up", "--data-dir", tmp_path / "data")
    assert said.startswith(f"millrace: The data folder {tmp_path}/data is in use by process {command.pid}: ")
    assert running_stack(tmp_path / "data").pid == command.pid


async def test_a_service_that_ends_while_starting_is_one_clear_failure(fake_up: Up, tmp_path: Path) -> None:
    command = await fake_up(FAKE_BROKEN="worker")
    ended = await command.ended()
    assert ended.status == 1
    assert "millrace: The worker process stopped while starting (exit status 1)." in ended.err
    assert ended.err.rstrip().endswith("no such model")
    assert "Traceback" not in ended.err
    assert not (tmp_path / "data" / "stack.json").exists()


async def test_a_stop_while_starting_leaves_nothing(fake_up: Up, tmp_path: Path) -> None:
    command = await fake_up(FAKE_SILENT="streams")
    await command.until("starting ingress", err=True)
    kafka = int(StackFile.model_validate_json((tmp_path / "data" / "stack.json").read_text()).children[0].pid or 0)
    command.signal(signal.SIGTERM)
    assert (await command.ended()).status == 0
    assert not alive(kafka)


async def test_it_needs_no_java_on_the_path_and_none_of_the_callers_java_settings(
    fake_up: Up, kafka_runtime: KafkaRuntime, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    cache = kafka_runtime.jars.parent
    command = await fake_up(
        PATH=tmp_path / "empty",
        HOME=tmp_path / "empty",
        JAVA_HOME=tmp_path,
        JAVA_TOOL_OPTIONS="-XX:NoSuchFlag",
        MILLRACE_CACHE_DIR=cache,
    )
    await command.until("ready ")
    kafka = children(running_stack(tmp_path / "data"))["kafka"]
    assert psutil.Process(kafka).exe() == str(java().resolve())


async def test_a_second_ctrl_c_does_not_wait(fake_up: Up, tmp_path: Path) -> None:
    command = await fake_up()
    await command.until("ready ")
    worker = children(running_stack(tmp_path / "data"))["worker"]
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)  # it won't hear SIGTERM
    command.signal(signal.SIGINT)
    await command.until("stopping", err=True)
    command.signal(signal.SIGINT)
    assert (await command.ended()).status == 0
    assert not alive(worker)


@pytest.mark.parametrize("variable", ["MILLRACE_INGRESS_PORT", "MILLRACE_KAFKA_PORT", "MILLRACE_ANALYTICS_PORT"])
async def test_a_taken_port_is_refused(broker: KafkaBroker, tmp_path: Path, variable: str) -> None:
    free = {name: free_port() for name in ("MILLRACE_INGRESS_PORT", "MILLRACE_KAFKA_PORT", "MILLRACE_ANALYTICS_PORT")}
    said = await refused("up", "--data-dir", tmp_path, **(free | {variable: broker.port}))
    assert said.startswith(f"millrace: Port {broker.port}, wanted for ")
    assert f"is in use by java (process {broker.pid}); choose another with " in said


async def test_a_full_disk_is_refused(tmp_path: Path) -> None:
    said = await refused("up", "--data-dir", tmp_path, "--port", 0, MILLRACE_MIN_FREE_DISK_MB=10**12)
    assert said.startswith(f"millrace: The disk of {tmp_path} is full: ")


FREE = {"MILLRACE_KAFKA_PORT": 0, "MILLRACE_ANALYTICS_PORT": 0}


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
async def test_a_missing_engine_is_refused(tmp_path: Path) -> None:
    said = await refused("up", "--data-dir", tmp_path, "--port", 0, "--engine", "vllm", **FREE)
    assert said == "millrace: The vllm engine needs vLLM, which is not installed: pip install 'millrace[vllm]'.\n"


async def test_an_upstream_that_is_not_there_is_refused(tmp_path: Path) -> None:
    port = free_port()
    nowhere = {"MILLRACE_OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
    said = await refused("up", "--data-dir", tmp_path, "--port", 0, "--engine", "openai", **FREE, **nowhere)
    assert said.startswith(f"millrace: The openai engine finds no server at http://127.0.0.1:{port}/v1: ")


async def test_a_setting_that_does_not_fit_is_named(tmp_path: Path) -> None:
    said = await refused("up", "--data-dir", tmp_path, MILLRACE_KAFKA_HEAP_MB="much")
    assert said.startswith("millrace: MILLRACE_KAFKA_HEAP_MB: Input should be a valid integer")


async def test_a_policy_file_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    routes = {"MILLRACE_ROUTES_FILE": tmp_path / "none.toml"}
    said = await refused("up", "--data-dir", tmp_path / "data", "--port", 0, **FREE, **routes)
    assert "none.toml can't be read: No such file or directory." in said
