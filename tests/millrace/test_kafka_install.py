"""The jar cache is whole or absent, whatever happened while it was filled. No network here."""

import hashlib
import threading
from pathlib import Path

import pytest
import requests

from contracts.errors import StackError
from millrace.kafka_jars import kafka_jars
from millrace.kafka_lock import KAFKA, LOG_BINDING, Jar, KafkaLock, load_lock

CONTENT = {"org.x:one:1.0": b"first jar", "org.x:two:2.1": b"second jar"}
LOCK = KafkaLock("".join(f"{name} {hashlib.sha256(body).hexdigest()}\n" for name, body in CONTENT.items()))


class Repository:
    """Serves jars as jgo does: into the folder that it is given."""

    def __init__(self, *, failures: int = 0, damage: bytes = b"") -> None:
        self.downloads = 0
        self._failures = failures
        self._damage = damage
        self._mutex = threading.Lock()

    def __call__(self, jar: Jar, folder: Path) -> Path:
        path = folder / jar.filename
        with self._mutex:
            self.downloads += 1
            if self._failures > 0:
                self._failures -= 1
                path.write_bytes(b"half of")
                raise requests.ConnectionError("connection lost")
        path.write_bytes(CONTENT[jar.coordinate] + self._damage)
        return path


def fill(cache: Path, repository: Repository) -> dict[str, bytes]:
    folder = kafka_jars(cache, lock=LOCK, fetch=repository)
    return {jar.name: jar.read_bytes() for jar in folder.glob("*.jar")}


WHOLE = {"one-1.0.jar": b"first jar", "two-2.1.jar": b"second jar"}


def test_the_second_start_downloads_nothing(tmp_path: Path) -> None:
    repository = Repository()
    assert fill(tmp_path, repository) == WHOLE
    assert fill(tmp_path, repository) == WHOLE
    assert repository.downloads == 2


def test_a_lost_connection_is_tried_again_from_the_beginning(tmp_path: Path) -> None:
    assert fill(tmp_path, Repository(failures=1)) == WHOLE


def test_no_network_is_one_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"can't be downloaded \(connection lost\): check the network"):
        fill(tmp_path, Repository(failures=99))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_the_locked_one_is_never_used(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"not the file that kafka\.lock names"):
        fill(tmp_path, Repository(damage=b"!"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"cut sho"])
def test_a_damaged_cache_is_fetched_anew(tmp_path: Path, damage: bytes) -> None:
    folder = kafka_jars(tmp_path, lock=LOCK, fetch=Repository())
    (folder / "one-1.0.jar").write_bytes(damage)
    assert fill(tmp_path, Repository()) == WHOLE


def test_a_missing_jar_is_fetched_anew(tmp_path: Path) -> None:
    folder = kafka_jars(tmp_path, lock=LOCK, fetch=Repository())
    (folder / "two-2.1.jar").unlink()
    assert fill(tmp_path, Repository()) == WHOLE


def test_two_first_starts_at_once_agree(tmp_path: Path) -> None:
    both_downloading = threading.Barrier(2, timeout=10)
    found: list[dict[str, bytes]] = []

    def start() -> None:
        repository = Repository()

        def fetch(jar: Jar, folder: Path) -> Path:
            if repository.downloads == 0:
                both_downloading.wait()
            return repository(jar, folder)

        folder = kafka_jars(tmp_path, lock=LOCK, fetch=fetch)
        found.append({jar.name: jar.read_bytes() for jar in folder.glob("*.jar")})

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [WHOLE, WHOLE]


def test_the_shipped_lock_names_kafka_and_its_log_binding() -> None:
    coordinates = {jar.coordinate for jar in load_lock().jars}
    assert {KAFKA, LOG_BINDING} <= coordinates
    clients = [name for name in coordinates if ":kafka-clients:" in name]
    assert clients == [f"org.apache.kafka:kafka-clients:{KAFKA.rpartition(':')[2]}"]
