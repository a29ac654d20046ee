"""One service of the stack as a supervised child."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace.child_process import ChildProcess
from millrace.notify_socket import NotifySocket


@dataclass(frozen=True)
class ServiceSpec:
    """What to run, and how long to be patient with it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    stop_rank: int = 0  # lower stops earlier; equals stop together
    ready_seconds: float = 120.0
    stop_seconds: float = 30.0


class ServiceProcess:
    """May be started again after it has ended."""

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.log = spec.log
        self.stop_rank = spec.stop_rank
        self._process: ChildProcess | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.status is None else None

    async def start(self) -> None:
        """Returns once it has said that it is ready. Raises StackError when it ends or takes too long before."""
        spec = self.spec
        with NotifySocket() as notify:
            environment = {**spec.environment, "NOTIFY_SOCKET": notify.address}
            self._process = await ChildProcess.spawn(spec.command, environment=environment, log=spec.log)
            try:
                await self._process.until_ready(
                    notify.ready(), name=f"The {spec.name} process", limit_seconds=spec.ready_seconds
                )
            except BaseException:
                await self._process.stop(limit_seconds=0)
                raise

    async def wait(self) -> int:
        assert self._process is not None, "start() comes first"
        return await self._process.wait()

    async def stop(self) -> bool:
        """False when it had to be killed."""
        return await self._process.stop(self.spec.stop_seconds) if self._process else True

    def kill(self) -> None:
        if self._process:
            self._process.kill()
