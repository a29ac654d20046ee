"""A real Apache Kafka of one node, as a child process: the one-machine stack's and the tests'."""

import base64
import uuid
from collections.abc import Mapping
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from millrace.child_process import ChildProcess, explain_status
from millrace.folder_lock import FolderLock
from millrace.kafka_config import HOST, KafkaFiles, server_properties
from millrace.kafka_runtime import KafkaRuntime, java_environment
from millrace.polling import until
from millrace.ports import check_port, free_port, is_open


class KafkaBroker:
    """Keeps its records under `data_dir`: stop it or kill it, and a later `start()` finds them."""

    name = "kafka"
    stop_rank = 9  # after everything that writes to it

    def __init__(
        self,
        runtime: KafkaRuntime,
        data_dir: Path,
        *,
        port: int | None = None,
        heap_mb: int = 512,
        jvm_flags: tuple[str, ...] = (),
        log: Path | None = None,
        ready_seconds: float = 60.0,
        stop_seconds: float = 30.0,
    ) -> None:
        """`port` is a free one when None, and the same at every start of this object."""
        self.port = port or free_port()
        self._runtime = runtime
        self._files = KafkaFiles(data_dir.absolute())
        self.log = log or self._files.log
        self._broker_flags = (f"-Xmx{heap_mb}m", *jvm_flags)
        self._ready_seconds = ready_seconds
        self._stop_seconds = stop_seconds
        self._lock = FolderLock(data_dir)
        self._process: ChildProcess | None = None

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        running = self._process is not None and self._process.status is None
        return self._process.pid if self._process and running else None

    async def start(self) -> None:
        """Returns once the broker answers. Raises StackError when folder or port is taken, or it doesn't come up."""
        self._lock.acquire()
        try:
            check_port(HOST, self.port, purpose="Kafka", remedy="set MILLRACE_KAFKA_PORT to another")
            self._write_files()
            if not self._files.formatted:
                await self._format()
            await self._launch()
        except BaseException:
            await self._end(limit_seconds=0.0)
            raise

    async def wait(self) -> int:
        """Its exit status, once it has ended. The data folder is free then."""
        assert self._process is not None, "start() comes first"
        status = await self._process.wait()
        self._lock.release()
        return status

    async def stop(self) -> bool:
        """A clean shutdown, within the limit. False when it had to be killed (the next start then checks the log)."""
        return await self._end(self._stop_seconds)

    def kill(self) -> None:
        """kill -9, as a fault test or the out-of-memory killer does it; `wait()` then returns."""
        if self._process:
            self._process.kill()

    async def _format(self) -> None:
        # One id in 64 begins with "-", which only "=" keeps from being read as an option.
        arguments = ("format", "--ignore-formatted", f"--cluster-id={self._cluster_id()}", "-c")
        command = self._command("kafka.tools.StorageTool", arguments)
        tool = await ChildProcess.spawn(command, environment=java_environment(), log=self.log)
        status = await tool.wait()
        if status != 0:
            raise tool.failure(f"Kafka could not format its data folder ({explain_status(status)})")

    def _cluster_id(self) -> str:
        """The same for every node of a cluster; here there is one."""
        return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")

    def _write_files(self) -> None:
        self._files.write(server_properties(self._files.records, self.port, free_port()))

    async def _launch(self) -> None:
        command = self._command("kafka.Kafka", flags=self._broker_flags)
        self._process = await ChildProcess.spawn(command, environment=java_environment(), log=self.log)
        answering = until(lambda: _answers(HOST, self.port))
        await self._process.until_ready(answering, name="Kafka", limit_seconds=self._ready_seconds)

    def _command(self, main_class: str, arguments: tuple[str, ...] = (), *, flags: tuple[str, ...] = ()) -> list[str]:
        places = (f"-Djava.io.tmpdir={self._files.scratch}", f"-Dlog4j2.configurationFile={self._files.log4j2}")
        properties = str(self._files.server_properties)
        return self._runtime.command(main_class, *arguments, properties, flags=(*places, *flags))

    async def _end(self, limit_seconds: float) -> bool:
        clean = await self._process.stop(limit_seconds) if self._process else True
        self._lock.release()
        return clean


async def _answers(host: str, port: int) -> bool:
    """An open port is not enough: the broker must know itself as a live member of the cluster."""
    if not is_open(host, port):  # spares the log aiokafka's complaints
        return False
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{host}:{port}", request_timeout_ms=5000)
    try:
        await admin.start()
        cluster: Mapping[str, object] = await admin.describe_cluster()
    except (KafkaError, OSError):
        return False
    else:
        return bool(cluster["brokers"])
    finally:
        await admin.close()
