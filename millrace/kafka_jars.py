"""Kafka's jars in a cache that is either whole or absent: the second start needs no network.

A folder `kafka-<lock digest>` is made beside its final place and renamed; every start checks each jar's SHA-256
(about 0.1 s), so that a damaged cache is fetched again and never run.
"""

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from contracts.errors import StackError
from millrace.kafka_lock import Jar, KafkaLock, load_lock

_PARALLEL_DOWNLOADS = 8

Fetch = Callable[[Jar, Path], Path]  # downloads a jar somewhere under the folder and returns where


def kafka_jars(cache: Path, *, lock: KafkaLock | None = None, fetch: Fetch | None = None) -> Path:
    """The folder of jars; blocks while it downloads. Raises StackError when they can't be had."""
    lock = lock or load_lock()
    folder = cache / f"kafka-{lock.digest}"
    if not _is_whole(folder, lock):
        _discard(folder)
        _fill(folder, lock, fetch or maven_fetch(None))
    return folder


def are_cached(cache: Path) -> bool:
    """Whether a start needs no network (by the folder's presence; a damaged one is found out later)."""
    return (cache / f"kafka-{load_lock().digest}").is_dir()


def maven_fetch(repository_url: str | None) -> Fetch:
    """Downloads by jgo from Maven Central, or from the mirror named. Safe to call from several threads."""
    repositories = {"mirror": repository_url} if repository_url else None

    def fetch(jar: Jar, folder: Path) -> Path:
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - slow to import, rarely needed

        # PythonResolver alone: jgo's environments would look for a JDK to classify the jars, and download one.
        maven = MavenContext(resolver=PythonResolver(), repo_cache=folder, remote_repos=repositories)
        path: Path = maven.create_dependency(jar.coordinate).artifact.resolve()
        return path

    return fetch


def _is_whole(folder: Path, lock: KafkaLock) -> bool:
    return folder.is_dir() and all(jar.matches(folder / jar.filename) for jar in lock.jars)


def _discard(folder: Path) -> None:
    """Moved away first, so that nobody ever sees half of it."""
    if folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".discarded-") as bin_:
            folder.rename(Path(bin_) / folder.name)


def _fill(folder: Path, lock: KafkaLock, fetch: Fetch) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".incoming-") as incoming:
        made = Path(incoming) / "jars"
        made.mkdir()
        pool = ThreadPoolExecutor(_PARALLEL_DOWNLOADS)
        try:
            for done in [pool.submit(_fetch_one, jar, Path(incoming), made, fetch) for jar in lock.jars]:
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)
        _publish(made, folder, lock)


def _fetch_one(jar: Jar, incoming: Path, made: Path, fetch: Fetch) -> None:
    try:
        downloaded = _try_fetch(jar, incoming, fetch)
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        raise StackError(
            f"{jar.filename} of Apache Kafka can't be downloaded ({_first_cause(error)}): check the network, "
            "or name a Maven mirror in MILLRACE_MAVEN_URL."
        ) from error
    if not jar.matches(downloaded):
        raise StackError(f"{jar.filename} was downloaded but is not the file that kafka.lock names (SHA-256).")
    shutil.move(downloaded, made / jar.filename)


@retry(
    retry=retry_if_exception_type(OSError),
    stop=stop_after_attempt(3),
    wait=wait_exponential(multiplier=0.5),
    reraise=True,
)
def _try_fetch(jar: Jar, incoming: Path, fetch: Fetch) -> Path:
    """Each try in a folder of its own: jgo would take the half of a file for the whole."""
    return fetch(jar, Path(tempfile.mkdtemp(dir=incoming)))


def _publish(made: Path, folder: Path, lock: KafkaLock) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not _is_whole(folder, lock):  # else another process was first
            raise


def _first_cause(error: BaseException) -> str:
    """requests' own messages are a page long."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)
