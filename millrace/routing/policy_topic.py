"""The routing policy on the topic `routes`: read, checked against what is served, calibrated, and published."""

from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaProducer

from contracts.catalogue import Catalogue, load_catalogue, parse_toml
from contracts.clock import now_ms
from contracts.compacted import Follower, Records
from contracts.errors import ConfigError, StackError
from contracts.kafka import producer_options
from contracts.policy_record import POLICY_KEY, PolicyRecord
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.topics import LANES, Topics
from millrace.routing.threshold import Calibrator, target_rule
from millrace.routing.traffic import past_requests
from millrace.topic_admin import kafka_admin
from streams.policy.running import router_of

SAMPLE = 20_000  # requests: a threshold is then good to a percent or so of the spend


class Span(NamedTuple):
    """Of time, UTC ms."""

    since: int
    until: int


async def read_policy(settings: Settings) -> PolicyRecord | None:
    """What is applied; None when each process uses its own file. Raises StackError, ConfigError."""
    await _check_topics(settings, [Topics.of(settings).routes])
    latest: dict[bytes | None, bytes | None] = {}

    def hear(records: Records) -> None:
        latest.update(records)

    async with Follower(settings, Topics.of(settings).routes, hear):
        pass
    value = latest.get(POLICY_KEY)
    return PolicyRecord.decode(value) if value else None


async def policy_in_force(settings: Settings) -> PolicyRecord:
    """What is applied, or else this machine's own file, as the streams would start with it. Raises ConfigError."""
    try:
        applied = await read_policy(settings)
    except StackError:  # without a Kafka, the file is all there is
        applied = None
    return applied or PolicyRecord(toml=own_file(settings), applied_at=0)


def own_file(settings: Settings) -> str:
    """The routes file of these settings, checked. Raises ConfigError."""
    load_catalogue(settings.routes_file)
    own = settings.routes_file
    return own.read_text() if own else files("contracts").joinpath("routes.toml").read_text()


async def make_policy(
    settings: Settings, toml: str, name: str, scorer: dict[str, Any] | None, calibrate_on: Span | None
) -> PolicyRecord:
    """Ready to be published: it was checked, and calibrated where it asks for that. `name` is the file's, for errors.

    Raises ConfigError with line and reason when it doesn't fit, StackError where there is no Kafka.
    """
    catalogue = parse_toml(toml, name, Catalogue)
    topics = Topics.of(settings)
    work = {topics.work(model, lane): model for model in catalogue.models for lane in LANES}
    await _check_topics(settings, [topics.routes, *work])
    record = PolicyRecord(toml=toml, scorer=scorer, applied_at=now_ms())
    router_of(record, load_prices(settings.prices_file))
    return await calibrated(settings, record, calibrate_on) if calibrate_on else record


async def calibrated(settings: Settings, record: PolicyRecord, span: Span) -> PolicyRecord:
    """With the threshold that meets its spend target, if it has one. Raises ConfigError, StackError."""
    catalogue, prices = record.catalogue(), load_prices(settings.prices_file)
    rule = target_rule(catalogue)
    if rule is None:
        return record
    calibrator = Calibrator(catalogue, rule, prices, router_of(record, prices).scorer)
    await past_requests(settings, *span, calibrator.take, SAMPLE)
    return record.model_copy(update={"calibration": calibrator.calibrate(*span)})


async def publish_policy(settings: Settings, record: PolicyRecord | None) -> None:
    """In force as soon as each streams process has read it: milliseconds. None: to each its own file again.

    Raises ConfigError when it is too large.
    """
    value = record.model_dump_json().encode() if record else None
    if value and len(value) > settings.max_body_bytes:
        raise ConfigError(
            f"The policy with its scorer has {len(value):,} bytes; Kafka's topics take {settings.max_body_bytes:,} "
            "(MILLRACE_MAX_BODY_BYTES)."
        )
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        await producer.send_and_wait(Topics.of(settings).routes, value, key=POLICY_KEY)


def read_scorer(path: Path) -> dict[str, Any]:
    """Raises ConfigError when it isn't JSON; whether it is a scorer, making the policy tells."""
    try:
        document: dict[str, Any] = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ConfigError(f"{path} can't be read as a scorer: {error}.") from None
    return document


async def _check_topics(settings: Settings, names: list[str]) -> None:
    """The streams write to topics that were there when they started, and to no others."""
    async with kafka_admin(settings) as admin:
        present = {topic["topic"] for topic in await admin.describe_topics(names) if topic["partitions"]}
    missing = [name for name in names if name not in present]
    if missing:
        raise StackError(
            f"Kafka has no topic {missing[0]}: a new model needs its topics (`millrace topics --create` with the new "
            "routes file), workers, and a restart of the services; then its policy can be applied."
        )
