"""The pipeline as it flows now: Kafka says how much and how far behind, the ledger how long and how it ended."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from aiokafka.errors import KafkaError

from analytics.clickhouse import ClickHouseError
from analytics.dashboard.flow_nodes import Figures, nodes, number
from analytics.dashboard.flow_sql import BY_LANE, ENDS, WHOLE, WINDOW_SECONDS
from analytics.dashboard.kafka_offsets import KafkaOffsets, Moment, rates
from analytics.dashboard.reading import Reading
from analytics.dashboard.worker_lines import worker_lines
from contracts.catalogue import load_catalogue
from contracts.compacted import Follower
from contracts.outlook import Outlook
from contracts.settings import Settings
from contracts.topics import LANES, Topics, all_topics

_HISTORY_SECONDS, _STEP_SECONDS = 300, 15
_FRESH_MS = 3000
_SOONEST_SECONDS = 1.0  # between two points of the history: over less, a rate is noise
_LOOKS = 16  # that rates, and standing still, are told from
_STALE_SECONDS = 30.0  # nobody watched for so long: the history is asked of Kafka anew


class Flow:
    """One for all pages. `look` is cheap: two questions to Kafka, two to the ledger, of its last minute."""

    def __init__(self, settings: Settings, reading: Reading) -> None:
        self._reading = reading
        self._topics = topics = Topics.of(settings)
        catalogue = load_catalogue(settings.routes_file)
        self._models = list(catalogue.models)
        readers = {topics.streams_app: [topics.requests, topics.admitted, topics.completions]}
        readers[topics.sink_group] = [topics.usage]
        for model in self._models:
            readers[topics.worker_group(model)] = [topics.work(model, lane) for lane in LANES]
        shown = {topics.dead_letters, *(topic for read in readers.values() for topic in read)}
        partitions = {spec.name: spec.partitions for spec in all_topics(settings, catalogue) if spec.name in shown}
        self._kafka = KafkaOffsets(settings, partitions, readers)
        self._settings = settings
        self._outlook = Outlook()
        self._beats: Follower | None = None
        self._seen: dict[str, Any] | None = None
        self._one = asyncio.Lock()  # looks and closes one after the other
        self._moments: deque[Moment] = deque(maxlen=_LOOKS)
        self._past: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=_HISTORY_SECONDS // 2)

    async def look(self) -> dict[str, Any]:
        """What is missing because Kafka or the ledger doesn't answer is named in `problem`."""
        self._seen = await self._look()
        return self._seen

    async def last(self) -> dict[str, Any]:
        """As it was a moment ago, for a page that opens beside others."""
        fresh = self._seen and time.time() * 1000 - self._seen["at"] < _FRESH_MS
        return self._seen if fresh and self._seen else await self.look()

    async def _look(self) -> dict[str, Any]:
        figures, problem = await self._from_ledger()
        moment = None
        async with self._one:
            try:
                moment = await self._from_kafka()
            except (KafkaError, OSError):
                problem = "Kafka doesn't answer: rates, lags and workers are missing."
        shown = nodes(self._topics, self._models, list(self._moments) if moment else [], figures)
        return {
            "at": int(time.time() * 1000),
            "window_seconds": WINDOW_SECONDS,
            "problem": problem,
            "nodes": shown,
            "workers": worker_lines(self._outlook.beats, int(time.time() * 1000)) if moment else [],
            "ended": {name: figures.whole.get(name, 0) for name in ENDS},
            "ttft_p99_ms": number(figures.whole.get("ttft_p99_ms")),
            "total_p99_ms": number(figures.whole.get("total_p99_ms")),
            "completion_tokens": figures.whole.get("completion_tokens", 0),
            "history": self._history() if moment else [],
        }

    async def close(self) -> None:
        """May be looked at again."""
        async with self._one:
            beats, self._beats = self._beats, None
            if beats:
                await beats.__aexit__(None, None, None)
            await self._kafka.close()

    async def _from_kafka(self) -> Moment:
        moment = await self._kafka.now()
        if self._beats is None:
            self._outlook = Outlook()
            self._beats = await Follower(self._settings, self._topics.workers, self._outlook.apply).__aenter__()
        if not self._past or moment.at - self._past[-1][0] > _STALE_SECONDS:
            self._moments.clear()
            self._past = deque(await self._kafka.past(_before(int(moment.at))), maxlen=self._past.maxlen)
        if not self._past or moment.at - self._past[-1][0] >= _SOONEST_SECONDS:
            self._past.append((moment.at, moment.ends))
        self._moments.append(moment)
        return moment

    def _history(self) -> list[dict[str, Any]]:
        """Records a second that each topic got, oldest first."""
        since = time.time() - _HISTORY_SECONDS
        plain = {topic: topic.removeprefix(self._topics.prefix) for topic in self._past[-1][1]}
        return [
            {"at": int(at * 1000), "rates": {plain[topic]: round(rate, 2) for topic, rate in found.items()}}
            for at, found in rates(self._past)
            if at >= since
        ]

    async def _from_ledger(self) -> tuple[Figures, str]:
        try:
            whole = await self._reading.ask(lambda client: list(client.query(WHOLE).named_results()))
            lanes = await self._reading.ask(lambda client: list(client.query(BY_LANE).named_results()))
        except ClickHouseError:
            return Figures({}, {}), "The ledger doesn't answer: times and errors are missing."
        return Figures(whole[0], {(row["model"], row["lane"]): row for row in lanes}), ""


def _before(now: int) -> range:
    """UTC seconds."""
    return range(now - _HISTORY_SECONDS, now - 1, _STEP_SECONDS)
