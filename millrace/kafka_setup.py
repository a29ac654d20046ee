"""Everything that Kafka needs on this machine, made on first use."""

import os
import sys
from collections.abc import Callable

from contracts.errors import StackError
from millrace.child_process import ChildProcess
from millrace.kafka_install import installed
from millrace.kafka_runtime import KafkaRuntime
from millrace.stack_settings import StackSettings


def _silent(_: str) -> None:
    pass


async def prepare_kafka(settings: StackSettings, say: Callable[[str], None] = _silent) -> KafkaRuntime:
    """Takes 15 s and the network the first time, 50 ms afterwards. Raises StackError."""
    runtime = installed(settings.cache)
    if runtime is None:
        say("fetching Apache Kafka, this once: 45 MB")
        await _install(settings)
        runtime = installed(settings.cache)
    if runtime is None:
        raise StackError(f"Apache Kafka was installed in {settings.cache} but is damaged already: check the disk.")
    return runtime


async def _install(settings: StackSettings) -> None:
    log = settings.cache / "install.log"
    arguments = [str(settings.cache), *([settings.maven_url] if settings.maven_url else [])]
    command = [sys.executable, "-m", "millrace.kafka_install", *arguments]
    try:
        process = await ChildProcess.spawn(command, environment=os.environ, log=log)
    except OSError as error:
        raise StackError(f"The cache folder {settings.cache} can't be used: {error.strerror}.") from None
    try:
        status = await process.wait()
    finally:
        process.kill()
    if status != 0:
        raise process.failure("Apache Kafka can't be installed")
