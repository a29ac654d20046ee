"""Where Prometheus finds the stack's processes: file_sd's own form, and gone when the stack is."""

import json
import socket
from pathlib import Path

from contracts.settings import Settings
from millrace.load_settings import load_stack_settings
from millrace.ports import ports_from
from millrace.prometheus_targets import remove_targets, write_targets
from millrace.stack import make_plan


def test_each_process_is_a_group_with_its_labels(tmp_path: Path) -> None:
    path = write_targets(tmp_path, {"ingress": "127.0.0.1:9464", "worker-2": "127.0.0.1:9466"})
    assert json.loads(path.read_text()) == [
        {"targets": ["127.0.0.1:9464"], "labels": {"service": "ingress", "process": "ingress"}},
        {"targets": ["127.0.0.1:9466"], "labels": {"service": "worker", "process": "worker-2"}},
    ]
    assert [path.name for path in path.parent.iterdir()] == ["targets.json"]
    remove_targets(tmp_path)
    remove_targets(tmp_path)
    assert not path.exists()


def test_ports_are_counted_up_past_those_that_are_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        first, second = ports_from(taken, 2, "127.0.0.1")
        others = ports_from(taken, 2, "127.0.0.1", [first])
    assert taken < first < second
    assert taken not in others
    assert first not in others


def test_any_ports_are_different_ones() -> None:
    ports = ports_from(0, 200, "127.0.0.1")
    assert len(set(ports)) == 200
    assert not set(ports) & set(ports_from(0, 200, "127.0.0.1", ports))


def test_every_process_of_the_stack_has_a_port_of_its_own(tmp_path: Path) -> None:
    plan = make_plan(load_stack_settings(tmp_path), workers=2)
    ports = {name: plan.environment_of(name)["MILLRACE_METRICS_PORT"] for name in plan.service_names()}
    assert len(set(ports.values())) == 5
    assert {name: address.rpartition(":")[2] for name, address in plan.metrics.items()} == ports
    assert plan.environment_of("somebody else")["MILLRACE_METRICS_PORT"] == "0"
    assert min(map(int, ports.values())) >= Settings().metrics_port
