"""Kafka as production has it: three nodes (on one machine here), three copies of each record, two of them written."""

import base64
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from millrace.kafka_broker import KafkaBroker
from millrace.kafka_config import HOST, server_properties
from millrace.kafka_runtime import KafkaRuntime
from millrace.ports import free_port

NODES = (1, 2, 3)
_COPIES = {
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": 3,
    "share.coordinator.state.topic.min.isr": 2,
    "min.insync.replicas": 2,
    # Until its session has passed a dead broker counts as in sync, and whatever needs its acknowledgement waits. When
    # it was the controller, the others must miss that first.
    "broker.session.timeout.ms": 1000,
    "broker.heartbeat.interval.ms": 200,
    "replica.lag.time.max.ms": 5000,
    "controller.quorum.election.timeout.ms": 500,
    "controller.quorum.fetch.timeout.ms": 1000,
}


@dataclass
class Cluster:
    """Addresses that hold for as long as it lives."""

    ports: dict[int, int] = field(default_factory=lambda: {number: free_port() for number in NODES})
    controllers: dict[int, int] = field(default_factory=lambda: {number: free_port() for number in NODES})
    id: str = field(default_factory=lambda: base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{HOST}:{port}" for port in self.ports.values())

    @property
    def overrides(self) -> dict[str, object]:
        """Of the services' settings."""
        return {"kafka_bootstrap_servers": self.bootstrap, "replication_factor": 3, "min_insync_replicas": 2}

    def properties(self, number: int, records: Path) -> dict[str, object]:
        voters = ",".join(f"{node}@{HOST}:{port}" for node, port in self.controllers.items())
        alone = server_properties(records, self.ports[number], self.controllers[number])
        return alone | {"node.id": number, "controller.quorum.voters": voters} | _COPIES


class ClusterNode(KafkaBroker):
    """It is ready when it answers, and for that two nodes of three must run: start them together."""

    def __init__(self, runtime: KafkaRuntime, data_dir: Path, cluster: Cluster, number: int, log: Path) -> None:
        super().__init__(runtime, data_dir, port=cluster.ports[number], heap_mb=384, log=log)
        self.name = f"kafka-{number}"
        self._cluster = cluster
        self._number = number

    def _cluster_id(self) -> str:
        return self._cluster.id

    def _write_files(self) -> None:
        self._files.write(self._cluster.properties(self._number, self._files.records))
