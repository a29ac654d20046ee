"""`kafka.lock`: the jars of Apache Kafka and of its log binding, each with its SHA-256.

`python -m millrace.kafka_lock` resolves them anew with jgo and prints the file.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

KAFKA = "org.apache.kafka:kafka_2.13:4.4.0"
# Without a binding for slf4j 1.7 the broker's log is silent. Its version is that of Kafka's own log4j-core.
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"


@dataclass(frozen=True)
class Jar:
    coordinate: str  # group:artifact:version
    sha256: str  # hex

    @property
    def filename(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def matches(self, path: Path) -> bool:
        return path.is_file() and sha256(path) == self.sha256


@dataclass(frozen=True)
class KafkaLock:
    text: str

    @cached_property
    def jars(self) -> tuple[Jar, ...]:
        lines = (line.split() for line in self.text.splitlines() if line and not line.startswith("#"))
        return tuple(Jar(coordinate, digest) for coordinate, digest in lines)

    @property
    def digest(self) -> str:
        """Changes with any jar: the name of the cache that holds them."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


def load_lock() -> KafkaLock:
    return KafkaLock(files("millrace").joinpath("kafka.lock").read_text())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve_lock(folder: Path) -> str:
    """Resolve with jgo, downloading into `folder`; returns the lock's text."""
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - slow to import, rarely needed

    maven = MavenContext(resolver=PythonResolver(), repo_cache=folder)
    # "!" keeps jgo from taking the binding's parent POM for a bill of materials: it names an old kafka-clients.
    roots = [maven.create_dependency(f"{coordinate}!") for coordinate in (KAFKA, LOG_BINDING)]
    inputs, transitive = maven.resolver.resolve(roots)
    kept = [*inputs, *(dep for dep in transitive if dep.scope in ("compile", "runtime"))]
    lines = [f"{d.groupId}:{d.artifactId}:{d.version} {sha256(d.artifact.resolve())}" for d in kept]
    return "\n".join(["# Written by `python -m millrace.kafka_lock`.", *sorted(lines), ""])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as repository:
        print(resolve_lock(Path(repository)), end="")  # noqa: T201 - its purpose
