"""The one-machine stack: Kafka, its topics, and every service, from one command to `ready` and back to nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import all_topics
from millrace.examples import about_dashboard, examples
from millrace.folder_lock import FolderLock
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_config import HOST
from millrace.kafka_setup import prepare_kafka
from millrace.keys import ensure_demo_key, ensure_operator_key
from millrace.load_settings import load
from millrace.ports import free_port, is_open, ports_from
from millrace.preflight import check_disk, check_engine, check_ports
from millrace.prometheus_targets import remove_targets, targets_of, write_targets
from millrace.service_process import ServiceProcess, ServiceSpec
from millrace.stack_file import ChildState, StackFile, own_start_time, remove_stack_file
from millrace.stack_settings import StackSettings
from millrace.supervisor import Backoff, Child, Supervisor
from millrace.topic_admin import ensure_topics

Say = Callable[[str], None]
Command = Callable[[str], Sequence[str]]

# New requests stop first, then what runs is finished, settled and billed; Kafka stops after all of them.
_STOP_RANKS = {"ingress": 0, "worker": 1, "streams": 2, "analytics": 3}


def own_command(service: str) -> Sequence[str]:
    return [sys.executable, "-m", "millrace", service]


@dataclass(frozen=True)
class StackPlan:
    """Every address and folder, decided; `overrides` are those that the services must be told."""

    stack: StackSettings
    data_dir: Path
    kafka_port: int
    overrides: dict[str, Any]
    workers: int = 1
    metrics: dict[str, str] = field(default_factory=dict)  # host:port by the process's name

    @property
    def services(self) -> Settings:
        return load(Settings, **self.overrides)

    @property
    def url(self) -> str:
        """For callers on this machine."""
        host = self.overrides["ingress_host"]
        return f"http://{HOST if host == '0.0.0.0' else host}:{self.overrides['ingress_port']}"  # noqa: S104

    @property
    def dashboard_url(self) -> str | None:
        """For people at this machine; None when it isn't served."""
        services = self.services
        host = HOST if services.dashboard_host == "0.0.0.0" else services.dashboard_host  # noqa: S104
        return f"http://{host}:{services.dashboard_port}" if services.dashboard else None

    @property
    def environment(self) -> dict[str, str]:
        """The caller's, and MILLRACE_… for what was decided here."""
        decided = {f"MILLRACE_{name.upper()}": str(value) for name, value in self.overrides.items()}
        return {**os.environ, "PYTHONUNBUFFERED": "1", **decided}

    def environment_of(self, name: str) -> dict[str, str]:
        """Each process has its own port for Prometheus."""
        port = self.metrics[name].rpartition(":")[2] if name in self.metrics else "0"
        return self.environment | {"MILLRACE_METRICS_PORT": port}

    def log(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"

    def service_names(self) -> list[str]:
        """`worker` alone, or `worker-1`, `worker-2`, …"""
        numbered = [f"worker-{n + 1}" for n in range(self.workers)] if self.workers > 1 else ["worker"]
        return ["ingress", "streams", *numbered, "analytics"]


def make_plan(
    stack: StackSettings, *, engine: str | None = None, port: int | None = None, workers: int = 1
) -> StackPlan:
    """A port of 0 becomes a free one. What is set for a cluster elsewhere (address, TLS) doesn't apply here."""
    services = load(Settings)
    data_dir = stack.data_dir.absolute()
    kafka_port = stack.kafka_port or free_port()
    overrides: dict[str, Any] = {
        "kafka_bootstrap_servers": f"{HOST}:{kafka_port}",
        "kafka_security_protocol": "PLAINTEXT",
        "replication_factor": 1,
        "min_insync_replicas": 1,
        "ingress_host": services.ingress_host,
        "ingress_port": (services.ingress_port if port is None else port) or free_port(),
        "analytics_port": services.analytics_port or free_port(),
        "dashboard_port": _dashboard_port(services),
        "streams_state_dir": data_dir / "streams",
        "clickhouse_path": data_dir / "clickhouse",
        "worker_engine": engine or services.worker_engine,
        "metrics_host": services.metrics_host,
        "metrics_port": 0,
    }
    plan = StackPlan(stack, data_dir, kafka_port, overrides, workers)
    taken = [kafka_port, *(value for name, value in overrides.items() if name.endswith("_port"))]
    return replace(plan, metrics=_metrics_addresses(services, plan.service_names(), taken))


def _metrics_addresses(services: Settings, names: list[str], taken: list[int]) -> dict[str, str]:
    host = HOST if services.metrics_host == "0.0.0.0" else services.metrics_host  # noqa: S104
    ports = ports_from(services.metrics_port, len(names), host, taken)
    return {name: f"{host}:{port}" for name, port in zip(names, ports, strict=True)}


def _dashboard_port(services: Settings) -> int:
    """Another one when it is taken: nothing fails because nobody can watch it."""
    port = services.dashboard_port
    return port if port and not is_open(services.dashboard_host, port) else free_port()


class Stack:
    """`start()` and `stop()`; in between, the supervisor restarts what dies."""

    def __init__(self, plan: StackPlan, say: Say, command: Command = own_command) -> None:
        self.plan = plan
        self.api_key: str | None = None  # set by a start that made the first key of tenant demo
        self.operator_key: str | None = None  # likewise, of an operator
        self._services = plan.services
        self._command = command
        self._say = say
        self._lock = FolderLock(plan.data_dir)
        self._ready = False
        settings = plan.stack
        backoff = Backoff(
            settings.restart_first_ms / 1000, settings.restart_max_ms / 1000, settings.restart_healthy_seconds
        )
        self._supervisor = Supervisor(say, backoff, changed=self._record)

    async def start(self) -> None:
        """Returns when requests can be served. Raises StackError; stop() must follow in either case."""
        self._lock.acquire()
        check_disk(self.plan.data_dir, self.plan.stack.min_free_disk_mb)
        check_ports(self._services, self.plan.kafka_port)
        await check_engine(self._services)
        topics = all_topics(self._services, load_catalogue(self._services.routes_file))
        await self._start_kafka()
        await ensure_topics(self._services, topics)
        self.api_key = await ensure_demo_key(self._services)
        self.operator_key = await ensure_operator_key(self._services)
        self._say("starting ingress, streams, workers and analytics")
        await self._supervisor.start(*(self._child(name) for name in self.plan.service_names()))
        self._ready = True
        self._record()

    async def stop(self) -> None:
        """In order, each within its limit; nothing runs afterwards, and the data stays."""
        await self._supervisor.stop()
        if self._lock.held:
            remove_targets(self.plan.data_dir)
            remove_stack_file(self.plan.data_dir)
        self._lock.release()

    def kill(self) -> None:
        """For a second Ctrl-C. Nothing that was accepted is lost: that is what the log is for."""
        self._supervisor.kill()

    async def _start_kafka(self) -> None:
        settings = self.plan.stack
        runtime = await prepare_kafka(settings, self._say)
        self._say("starting Kafka")
        broker = KafkaBroker(
            runtime,
            self.plan.data_dir / "kafka",
            port=self.plan.kafka_port,
            heap_mb=settings.kafka_heap_mb,
            log=self.plan.log("kafka"),
            ready_seconds=settings.ready_seconds,
            stop_seconds=settings.stop_seconds,
        )
        await self._supervisor.start(broker)

    def _child(self, name: str) -> ServiceProcess:
        service = name.partition("-")[0]
        return ServiceProcess(
            ServiceSpec(
                name=name,
                command=self._command(service),
                environment=self.plan.environment_of(name),
                log=self.plan.log(name),
                stop_rank=_STOP_RANKS[service],
                ready_seconds=self.plan.stack.ready_seconds,
                stop_seconds=self.plan.stack.stop_seconds,
            )
        )

    def _record(self) -> None:
        """A disk that fills up later must not end the supervision."""
        try:
            write_targets(self.plan.data_dir, self.plan.metrics)
            self._state().write(self.plan.data_dir)
        except OSError as error:
            self._say(f"stack.json can't be written: {error.strerror}")

    def _state(self) -> StackFile:
        services = self._services
        embedded = services.clickhouse_url is None
        return StackFile(
            pid=os.getpid(),
            started=own_start_time(),
            ready=self._ready,
            url=self.plan.url,
            kafka=services.kafka_bootstrap_servers,
            query_url=f"http://{services.analytics_host}:{services.analytics_port}" if embedded else None,
            dashboard_url=self.plan.dashboard_url,
            engine=services.worker_engine,
            children=[self._child_state(child) for child in self._supervisor.children],
        )

    def _child_state(self, child: Child) -> ChildState:
        address = self.plan.metrics.get(child.name)
        url = f"http://{address}/metrics" if address else None
        return ChildState(name=child.name, pid=child.pid, log=child.log, metrics_url=url)


async def run_stack(stack: Stack, show: Say, say: Say) -> None:
    """Until SIGINT, SIGTERM or SIGHUP. `show` gets the result for standard output, `say` what happens meanwhile."""
    stop = asyncio.Event()
    _on_signals(stop, stack)
    starting = asyncio.create_task(stack.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            services = stack.plan.services
            show(f"ready {stack.plan.url}\n")
            if stack.plan.dashboard_url:
                show(about_dashboard(stack.plan.dashboard_url, stack.operator_key))
            show(examples(stack.plan.url, services.kafka_bootstrap_servers, services.topic_prefix, stack.api_key))
            show(f"# metrics of each process, for Prometheus' file_sd: {targets_of(stack.plan.data_dir)}\n")
            await stopping
        say("stopping")
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await stack.stop()


def _on_signals(stop: asyncio.Event, stack: Stack) -> None:
    """Each asks for an ordered stop; another Ctrl-C doesn't wait for it."""

    def handle() -> None:
        if stop.is_set():
            stack.kill()
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, handle)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
