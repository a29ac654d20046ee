"""Kafka's jars, downloaded by jgo and accepted only with the SHA-256 that `kafka.lock` names."""

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from contracts.errors import StackError
from millrace.kafka_lock import Jar, KafkaLock

_PARALLEL_DOWNLOADS = 8

Fetch = Callable[[Jar, Path], Path]  # downloads a jar somewhere under the folder and returns where


def download_jars(lock: KafkaLock, folder: Path, fetch: Fetch) -> None:
    """Fills `folder`, an empty one. Raises StackError when a jar can't be had or is not the one that is locked."""
    pool = ThreadPoolExecutor(_PARALLEL_DOWNLOADS)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            for done in [pool.submit(_download, jar, Path(scratch), folder, fetch) for jar in lock.jars]:
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def are_whole(lock: KafkaLock, folder: Path) -> bool:
    """Reads every jar: about 50 ms."""
    return all(jar.matches(folder / jar.filename) for jar in lock.jars)


def maven_fetch(repository_url: str | None) -> Fetch:
    """Downloads by jgo from Maven Central, or from the mirror named. Safe to call from several threads."""
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - slow to import, rarely needed

    repositories = {"mirror": repository_url} if repository_url else None

    def fetch(jar: Jar, folder: Path) -> Path:
        # PythonResolver alone: jgo's environments would look for a JDK to classify the jars, and download one.
        maven = MavenContext(resolver=PythonResolver(), repo_cache=folder, remote_repos=repositories)
        path: Path = maven.create_dependency(jar.coordinate).artifact.resolve()
        return path

    return fetch


def _download(jar: Jar, scratch: Path, folder: Path, fetch: Fetch) -> None:
    try:
        downloaded = _try_fetch(jar, scratch, fetch)
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        raise StackError(
            f"{jar.filename} of Apache Kafka can't be downloaded ({_first_cause(error)}): check the network, "
            "or name a Maven mirror in MILLRACE_MAVEN_URL."
        ) from error
    if not jar.matches(downloaded):
        raise StackError(f"{jar.filename} was downloaded but is not the file that kafka.lock names (SHA-256).")
    shutil.move(downloaded, folder / jar.filename)


@retry(
    retry=retry_if_exception_type(OSError),
    stop=stop_after_attempt(3),
    wait=wait_exponential(multiplier=0.5),
    reraise=True,
)
def _try_fetch(jar: Jar, scratch: Path, fetch: Fetch) -> Path:
    """Each try in a folder of its own: jgo would take the half of a file for the whole."""
    return fetch(jar, Path(tempfile.mkdtemp(dir=scratch)))


def _first_cause(error: BaseException) -> str:
    """requests' own messages are a page long."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)
