"""Kafka in the cache is whole or absent, whatever happened while it was installed. No network here."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from contracts.errors import StackError
from millrace.kafka_aot import make_aot_cache
from millrace.kafka_install import install, installed
from millrace.kafka_lock import KAFKA, LOG_BINDING, Jar, KafkaLock, load_lock
from millrace.kafka_setup import prepare_kafka
from millrace.ports import free_port
from millrace.stack_settings import StackSettings

CONTENT = {"org.x:one:1.0": b"first jar", "org.x:two:2.1": b"second jar"}
WHOLE = {"one-1.0.jar": b"first jar", "two-2.1.jar": b"second jar"}
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


def untrained(jars: Path) -> None:
    pass


def put(cache: Path, repository: Repository, train: Callable[[Path], None] = untrained) -> None:
    install(cache, repository, train, LOCK)


def found(cache: Path) -> dict[str, bytes]:
    runtime = installed(cache, LOCK)
    return {path.name: path.read_bytes() for path in runtime.jars.glob("*.jar")} if runtime else {}


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name != ".lock"]


def test_what_is_installed_is_not_installed_again(tmp_path: Path) -> None:
    repository = Repository()
    assert found(tmp_path) == {}
    put(tmp_path, repository)
    put(tmp_path, repository)
    assert found(tmp_path) == WHOLE
    assert repository.downloads == 2


def test_a_lost_connection_is_tried_again_from_the_beginning(tmp_path: Path) -> None:
    put(tmp_path, Repository(failures=1))
    assert found(tmp_path) == WHOLE


def test_no_network_is_one_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"can't be downloaded \(connection lost\): check the network"):
        put(tmp_path, Repository(failures=99))
    assert leftovers(tmp_path) == []


def test_a_file_that_is_not_the_locked_one_is_never_used(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"not the file that kafka\.lock names"):
        put(tmp_path, Repository(damage=b"!"))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("damage", [b"", b"cut sho"])
def test_a_damaged_jar_is_never_used(tmp_path: Path, damage: bytes) -> None:
    put(tmp_path, Repository())
    next(tmp_path.glob("*/one-1.0.jar")).write_bytes(damage)
    assert found(tmp_path) == {}
    put(tmp_path, Repository())
    assert found(tmp_path) == WHOLE


def test_a_missing_jar_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, Repository())
    next(tmp_path.glob("*/two-2.1.jar")).unlink()
    assert found(tmp_path) == {}


def test_an_install_that_dies_half_way_is_absent_and_swept_up_by_the_next(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die(jars: Path) -> None:
        assert {path.name for path in jars.glob("*.jar")} == set(WHOLE)
        assert found(tmp_path) == {}  # nobody sees it before it is whole
        (tmp_path / ".incoming-of-an-earlier-one").mkdir()
        raise Killed

    with pytest.raises(Killed):
        put(tmp_path, Repository(), die)
    put(tmp_path, Repository())
    assert len(leftovers(tmp_path)) == 1


def test_a_start_up_cache_is_used_when_one_was_made(tmp_path: Path) -> None:
    put(tmp_path, Repository(), lambda jars: (jars / "kafka.aot").touch())
    runtime = installed(tmp_path, LOCK)
    assert runtime is not None
    assert f"-XX:AOTCache={runtime.jars}/kafka.aot" in runtime.command("kafka.Kafka")


def test_two_first_starts_at_once_download_once(tmp_path: Path) -> None:
    repository = Repository()
    threads = [threading.Thread(target=put, args=(tmp_path, repository)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found(tmp_path) == WHOLE
    assert repository.downloads == 2


async def test_a_trial_run_that_fails_costs_only_speed(tmp_path: Path) -> None:
    await make_aot_cache(tmp_path)  # no jars: Kafka can't run
    assert leftovers(tmp_path) == []


async def test_a_stack_without_a_network_says_so(tmp_path: Path) -> None:
    nowhere = StackSettings(cache_dir=tmp_path, maven_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StackError, match=r"(?s)^Apache Kafka can't be installed.*refused.*MILLRACE_MAVEN_URL\.$"):
        await prepare_kafka(nowhere)


def test_the_shipped_lock_names_kafka_and_its_log_binding() -> None:
    coordinates = {jar.coordinate for jar in load_lock().jars}
    assert {KAFKA, LOG_BINDING} <= coordinates
    clients = [name for name in coordinates if ":kafka-clients:" in name]
    assert clients == [f"org.apache.kafka:kafka-clients:{KAFKA.rpartition(':')[2]}"]
