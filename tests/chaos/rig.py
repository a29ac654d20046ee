"""The one-machine stack's own parts, one supervisor to each, so that a fault can take any of them and add more."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import all_topics
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_config import HOST
from millrace.kafka_setup import prepare_kafka
from millrace.polling import until
from millrace.ports import free_port
from millrace.service_process import ServiceProcess, ServiceSpec
from millrace.stack import StackPlan, make_plan
from millrace.stack_settings import StackSettings
from millrace.supervisor import Backoff, Child, Supervisor
from millrace.topic_admin import ensure_topics, kafka_admin
from tests.chaos.cascade import write_routes
from tests.chaos.cluster import NODES, Cluster, ClusterNode
from tests.chaos.small_disk import SmallDisk
from tests.chaos.switches import Switches

INGRESSES = ("ingress-1", "ingress-2")
SERVICES = (*INGRESSES, "streams-1", "worker-1", "worker-2", "analytics")
ROOT = Path(__file__).parents[2]
_UP_SECONDS = 120.0
_LEDGER_MEBIBYTES = 192
_FOR_THE_LOAD = {
    "synthetic_sampling": True,  # each run says something else: an answer made of two would show
    "ingress_return_seconds": 1.0,  # who hangs up has really gone, while its answer is still being made
    "synthetic_faults": True,  # how sure an answer is comes with the request
    "worker_max_in_flight": 16,  # after a pause some wait for their turn, and are cancelled there
}


class Member:
    """One child; `up` is set while it is ready."""

    def __init__(self, child: Child) -> None:
        self.name, self.log, self.stop_rank = child.name, child.log, child.stop_rank
        self.up = asyncio.Event()
        self._child = child

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def service(self) -> str:
        return self.name.partition("-")[0]

    async def start(self) -> None:
        self.up.clear()
        await self._child.start()
        self.up.set()

    async def wait(self) -> int:
        status = await self._child.wait()
        self.up.clear()
        return status

    async def stop(self) -> bool:
        self.up.clear()
        return await self._child.stop()

    def kill(self) -> None:
        self._child.kill()


class Rig:
    """Two ingresses, streams, two workers, analytics and Kafka; a member that dies is started again as the stack
    would. `add` and `remove` change how many there are."""

    def __init__(self, data_dir: Path, say: Callable[[str], None], brokers: Literal[1, 3] = 1) -> None:
        self._cluster = Cluster() if brokers == 3 else None
        self.plan = _plan(data_dir, self._cluster.overrides if self._cluster else {})
        self.members: dict[str, Member] = {}
        self._plan_ports = {name: free_port() for name in INGRESSES}
        self._supervisors: dict[str, Supervisor] = {}
        self.small_disk: SmallDisk | None = None  # under ClickHouse, where the machine allows it
        self._say = say

    @property
    def settings(self) -> Settings:
        return self.plan.services

    @property
    def urls(self) -> list[str]:
        return [f"http://{HOST}:{port}" for port in self._plan_ports.values()]

    @property
    def ledger_url(self) -> str:
        return f"http://{HOST}:{self.plan.overrides['analytics_port']}"

    def of(self, service: str) -> list[Member]:
        """Running now, or being started again."""
        return [member for member in self.members.values() if member.service == service]

    async def start(self) -> None:
        self.small_disk = await SmallDisk.mount(self.plan.data_dir / "ledger", _LEDGER_MEBIBYTES)
        await asyncio.gather(*(self._begin(node) for node in await self._kafka()))
        await ensure_topics(self.settings, all_topics(self.settings, load_catalogue(self.settings.routes_file)))
        await asyncio.gather(*(self.add(name) for name in SERVICES))

    async def stop(self) -> None:
        """In order: whoever asks first, Kafka last."""
        for member in sorted(self.members.values(), key=lambda member: member.stop_rank):
            await self.remove(member.name)
        if self.small_disk:
            await self.small_disk.unmount()

    def switches(self, name: str) -> Switches:
        return Switches(self.plan.data_dir / "switches" / name)

    async def add(self, name: str) -> None:
        await self._begin(self._child(name))

    async def remove(self, name: str) -> None:
        """As an operator scales down: SIGTERM, and time to drain."""
        await self._supervisors.pop(name).stop()
        del self.members[name]

    async def healthy(self) -> None:
        """Returns when every member is ready. Raises TimeoutError."""
        async with asyncio.timeout(_UP_SECONDS):
            for member in list(self.members.values()):
                await member.up.wait()

    async def replicated(self) -> None:
        """Returns when every copy of every partition is in sync: before that no operator stops the next broker."""
        names = [spec.name for spec in all_topics(self.settings, load_catalogue(self.settings.routes_file))]
        async with kafka_admin(self.settings) as admin, asyncio.timeout(_UP_SECONDS):

            async def in_sync() -> bool:
                topics = await admin.describe_topics(names)
                return all(len(p["isr"]) == len(p["replicas"]) for topic in topics for p in topic["partitions"])

            await until(in_sync)

    async def _begin(self, child: Child) -> None:
        member = self.members[child.name] = Member(child)
        first = self.plan.stack.restart_first_ms / 1000
        backoff = Backoff(first, first)  # here a death says nothing of the next one
        self._supervisors[child.name] = Supervisor(self._say, backoff)
        await self._supervisors[child.name].start(member)

    async def _kafka(self) -> list[KafkaBroker]:
        runtime, cluster = await prepare_kafka(self.plan.stack, self._say), self._cluster
        folder = self.plan.data_dir
        if cluster is None:
            return [KafkaBroker(runtime, folder / "kafka", port=self.plan.kafka_port, log=self.plan.log("kafka"))]
        names = {number: f"kafka-{number}" for number in NODES}
        return [
            ClusterNode(runtime, folder / name, cluster, number, self.plan.log(name)) for number, name in names.items()
        ]

    def _child(self, name: str) -> ServiceProcess:
        service = name.partition("-")[0]
        environment = self.plan.environment | {"PYTHONPATH": str(ROOT)}
        if service == "ingress":
            environment = environment | {"MILLRACE_INGRESS_PORT": str(self._plan_ports[name])}
        keeper = [str(self.small_disk.keeper)] if service == "analytics" and self.small_disk else []
        command = [sys.executable, "-m", "tests.chaos.launcher", str(self.switches(name).folder), service, *keeper]
        rank = ("ingress", "worker", "streams", "analytics").index(service)
        return ServiceProcess(ServiceSpec(name, command, environment, self.plan.log(name), stop_rank=rank))


def _plan(data_dir: Path, overrides: Mapping[str, object]) -> StackPlan:
    plan = make_plan(StackSettings(data_dir=data_dir, kafka_port=0), engine="synthetic", port=0)
    own = {"analytics_port": free_port(), "clickhouse_path": plan.data_dir / "ledger"}
    own |= {"routes_file": write_routes(plan.data_dir)}
    return replace(plan, overrides={**plan.overrides, **own, **_FOR_THE_LOAD, **overrides})
