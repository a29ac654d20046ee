"""Kafka in the user's cache, either whole or absent: `python -m millrace.kafka_install CACHE [MAVEN_URL]`.

Jars and start-up cache are made in a folder beside their final place, which is then renamed. The name has the lock's
digest and the JRE's version; each start reads the jars against their checksums. A program of its own, so that whoever
waits for it can end it at once, in the middle of a download.
"""

import asyncio
import fcntl
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.errors import StackError
from millrace.kafka_aot import AOT_CACHE, make_aot_cache
from millrace.kafka_jars import Fetch, are_whole, download_jars, maven_fetch
from millrace.kafka_lock import KafkaLock, load_lock
from millrace.kafka_runtime import KafkaRuntime, java_version

_INCOMING = ".incoming-"


def installed(cache: Path, lock: KafkaLock | None = None) -> KafkaRuntime | None:
    """None when it must be installed: never done, or damaged since."""
    lock = lock or load_lock()
    folder = _folder(cache, lock)
    if not are_whole(lock, folder):
        return None
    aot = folder / AOT_CACHE
    return KafkaRuntime(folder, aot if aot.exists() else None)


def install(cache: Path, fetch: Fetch, train: Callable[[Path], None], lock: KafkaLock | None = None) -> None:
    """Blocks: 15 s with a good network, or as long as another process needs that does the same. Raises StackError."""
    lock = lock or load_lock()
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        if installed(cache, lock):
            return
        for left in cache.glob(f"{_INCOMING}*"):  # by an install that was killed
            shutil.rmtree(left)
        incoming = Path(tempfile.mkdtemp(dir=cache, prefix=_INCOMING))
        try:
            download_jars(lock, incoming, fetch)
            train(incoming)
            shutil.rmtree(_folder(cache, lock), ignore_errors=True)
            incoming.rename(_folder(cache, lock))
        finally:
            shutil.rmtree(incoming, ignore_errors=True)


def _folder(cache: Path, lock: KafkaLock) -> Path:
    return cache / f"kafka-{lock.digest}-jre-{java_version()}"


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    with (cache / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _train(jars: Path) -> None:
    asyncio.run(make_aot_cache(jars))


def main(cache: str, maven_url: str | None = None) -> None:
    try:
        install(Path(cache), maven_fetch(maven_url), _train)
    except StackError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main(*sys.argv[1:])
