"""The broker's files: `server.properties` for one machine, and its log's format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"  # the one-machine stack never listens beyond the machine
_MIB = 1024 * 1024

_LOG4J2 = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601_OFFSET_DATE_TIME_HHMM} %-5p %c{1}: %m%n
logger.config.name=org.apache.kafka.common.config
logger.config.level=warn
rootLogger.level=info
rootLogger.appenderRef.out.ref=out
"""


@dataclass(frozen=True)
class KafkaFiles:
    """Everything of one broker, under one folder."""

    folder: Path

    @property
    def records(self) -> Path:
        return self.folder / "records"

    @property
    def scratch(self) -> Path:
        """Where the JRE unpacks native libraries: not /tmp, which may forbid running them."""
        return self.folder / "tmp"

    @property
    def server_properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def log4j2(self) -> Path:
        return self.folder / "log4j2.properties"

    @property
    def log(self) -> Path:
        return self.folder / "kafka.log"

    @property
    def formatted(self) -> bool:
        return (self.records / "meta.properties").exists()

    def write(self, properties: Mapping[str, object]) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)
        lines = (f"{name}={value}\n" for name, value in properties.items())
        self.server_properties.write_text("".join(lines))
        self.log4j2.write_text(_LOG4J2)


def server_properties(records: Path, port: int, controller_port: int) -> dict[str, object]:
    """KRaft, broker and controller in one process; sizes for a laptop, not for a data centre."""
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": records,
        # One broker: every internal topic has one copy, in few partitions.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # A mistyped topic is an error, not a new topic; a group starts at once.
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # After kill -9 the controller waits for the session of the broker that was: 3 s instead of 9. Not less: on a
        # busy machine the broker would be fenced while it lives, and every group coordinator would load anew.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # Small segments, so that retention and compaction have something to remove.
        "log.segment.bytes": 64 * _MIB,
        "log.retention.hours": 168,
        "log.cleaner.dedupe.buffer.size": 16 * _MIB,
        "metadata.log.segment.bytes": 16 * _MIB,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "controlled.shutdown.max.retries": 1,
    }
