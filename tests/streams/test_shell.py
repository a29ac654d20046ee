"""The parts of the shell that no broker is needed for."""

import asyncio
from collections import defaultdict

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError
from faust.types import TP

from contracts.catalogue import load_catalogue
from contracts.errors import ConfigError
from contracts.settings import Settings
from contracts.topics import all_topics
from streams.errors import Fatal
from streams.gate import Gate
from streams.reply_topics import ReplyTopics
from streams.topic_check import check_topics
from streams.watchdog import Watchdog

FIRST = TP("requests", 0)
SECOND = TP("requests", 1)


class Cluster(ClusterMetadata):  # type: ignore[misc]
    def __init__(self, topics: dict[str, int]) -> None:
        super().__init__()
        self._counts = topics

    def topics(self) -> set[str]:
        return set(self._counts)

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self._counts[topic]))


class TestTopicCheck:
    settings = Settings()
    catalogue = load_catalogue()

    def topics(self) -> dict[str, int]:
        return {spec.name: spec.partitions for spec in all_topics(self.settings, self.catalogue)}

    def test_tells_every_topic_and_its_partitions(self) -> None:
        others = {"responses.mine": 3}
        assert check_topics(Cluster(self.topics() | others), self.settings, self.catalogue) == self.topics()

    def test_names_what_is_missing(self) -> None:
        topics = self.topics()
        del topics["usage"], topics["admitted"]
        with pytest.raises(ConfigError, match="no topic admitted, usage:"):
            check_topics(Cluster(topics), self.settings, self.catalogue)

    def test_names_what_has_other_partitions(self) -> None:
        with pytest.raises(ConfigError, match="usage has 9 partitions but the settings ask for 4"):
            check_topics(Cluster(self.topics() | {"usage": 9}), self.settings, self.catalogue)


class TestGate:
    async def test_idle_waits_for_what_is_under_way(self) -> None:
        gate = Gate()
        gate.open()
        await gate.idle()
        with gate.passing():
            gate.close()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await gate.idle()
        await gate.idle()
        assert not gate.is_open


class Client:
    """Counts the questions that are put to the cluster."""

    def __init__(self) -> None:
        self.asked = 0
        self.topics = {"responses.mine": 3}
        self.down = False

    async def fetch_all_metadata(self) -> Cluster:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise KafkaError
        return Cluster(self.topics)


class TestReplyTopics:
    async def test_existing_topics_are_asked_for_once(self) -> None:
        client = Client()
        directory = ReplyTopics(client)
        counts = await asyncio.gather(*(directory.partitions("responses.mine") for _ in range(5)))
        assert (counts, client.asked) == ([3] * 5, 1)

    async def test_made_up_names_dont_become_questions(self) -> None:
        client = Client()
        directory = ReplyTopics(client)
        counts = [await directory.partitions(f"responses.{number}") for number in range(50)]
        assert (counts, client.asked) == ([None] * 50, 1)

    async def test_no_answer_is_no_topic(self) -> None:
        client = Client()
        client.down = True
        assert await ReplyTopics(client).partitions("responses.mine") is None


class Consumer:
    """What the watchdog sees of Faust's."""

    def __init__(self) -> None:
        self._committed_offset: defaultdict[TP, int | None] = defaultdict(lambda: 5)
        self._acked: defaultdict[TP, list[int]] = defaultdict(list)
        self.end: int | None = 10

        self.ends: dict[TP, int] = {}

    def assignment(self) -> set[TP]:
        return {FIRST, *self._committed_offset}

    def progress(self, tp: TP) -> tuple[int | None, int | None]:
        return 10, self.ends.get(tp, self.end)


class TestWatchdog:
    @pytest.fixture
    def consumer(self) -> Consumer:
        return Consumer()

    @pytest.fixture
    def watchdog(self, consumer: Consumer) -> Watchdog:
        gate = Gate()
        gate.open()
        return Watchdog(consumer, gate)

    def test_quiet_partitions_may_stand_still(self, watchdog: Watchdog) -> None:
        for now in range(0, 200, 5):
            watchdog.look(now)

    def test_acknowledged_offsets_must_be_committed(self, consumer: Consumer, watchdog: Watchdog) -> None:
        consumer._acked[FIRST] = [5, 6]
        watchdog.look(0)
        consumer._committed_offset[FIRST] = 6
        watchdog.look(29)
        watchdog.look(58)
        with pytest.raises(Fatal, match="requests-0 has stood still"):
            watchdog.look(60)

    def test_records_that_are_there_must_arrive(self, consumer: Consumer, watchdog: Watchdog) -> None:
        consumer.end = 12
        watchdog.look(0)
        with pytest.raises(Fatal):
            watchdog.look(31)

    def test_one_may_wait_while_its_neighbour_works_off_a_backlog(self, consumer: Consumer, watchdog: Watchdog) -> None:
        consumer.ends[FIRST] = 12
        for now in range(0, 301, 5):
            consumer._committed_offset[SECOND] = now
            watchdog.look(now)
        with pytest.raises(Fatal, match="requests-0"):
            watchdog.look(305)

    def test_an_unread_partition_is_no_reason(self, consumer: Consumer, watchdog: Watchdog) -> None:
        consumer.end = None
        watchdog.look(0)
        watchdog.look(100)

    def test_a_rebalance_must_end(self, consumer: Consumer) -> None:
        gate = Gate()
        watchdog = Watchdog(consumer, gate)
        watchdog.look(1)
        watchdog.look(300)
        gate.open()
        watchdog.look(305)
        gate.close()
        watchdog.look(310)
        with pytest.raises(Fatal, match="no partitions have been opened"):
            watchdog.look(611)
