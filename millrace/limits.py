"""Limits on their compacted topic: read, set, taken away, replaced by a file; and what the meters say is used."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from aiokafka import AIOKafkaProducer
from ulid import ULID

from contracts.compacted import Follower, Records
from contracts.errors import InvalidRequest, StackError
from contracts.kafka import producer_options
from contracts.limit_usage import AccountUsage, UsageAnswer, UsageQuestion
from contracts.limits import Limit, Selector
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.hotline import hotline
from millrace.topic_admin import kafka_admin
from streams.partition import partition_of

DEFAULT: Literal["default"] = "default"  # instead of a figure: the one of the next more general limit
_PATIENCE_SECONDS = 10.0


class Changes(NamedTuple):
    """What applying a file has done."""

    added: list[Selector]
    changed: list[Selector]
    removed: list[Selector]


async def read_limits(settings: Settings) -> dict[Selector, Limit]:
    """As they hold now, in order of their selectors. Raises StackError without a Kafka, or without the topic."""
    topic = Topics.of(settings).limits
    async with kafka_admin(settings) as admin:
        [described] = await admin.describe_topics([topic])
    if not described["partitions"]:
        raise StackError(f"Topic {topic} is not there: `millrace topics --create` makes it.")
    limits: dict[Selector, Limit] = {}

    def hear(records: Records) -> None:
        for key, value in records:
            selector = Selector.decode(key)
            limits.pop(selector, None)
            if value:
                limits[selector] = Limit.model_validate_json(value)

    async with Follower(settings, topic, hear):
        pass
    return {selector: limits[selector] for selector in sorted(limits, key=_order)}


async def set_figures(settings: Settings, selector: Selector, figures: Mapping[str, int | str]) -> Limit:
    """The limit with these figures, and those that it had besides. Raises pydantic's ValidationError when one doesn't
    fit, and InvalidRequest when `default` leaves none."""
    known = (await read_limits(settings)).get(selector)
    fields = known.model_dump(exclude_none=True) if known else selector._asdict()
    fields |= figures
    kept = {name: value for name, value in fields.items() if value != DEFAULT}
    if kept.keys() <= {*Selector._fields}:
        raise InvalidRequest(f"That leaves no figure for {selector}: `millrace limits remove` takes the limit away.")
    limit = Limit.model_validate(kept)
    await _publish(settings, {selector: limit})
    return limit


async def remove_limit(settings: Settings, selector: Selector) -> None:
    """Raises InvalidRequest when there is none."""
    if selector not in await read_limits(settings):
        raise InvalidRequest(f"There is no limit for {selector}: `millrace limits show` has those that there are.")
    await _publish(settings, {selector: None})


async def apply_limits(settings: Settings, limits: Iterable[Limit]) -> Changes:
    """Puts these in the place of all that there are; the meters see it whole or not yet."""
    known = await read_limits(settings)
    wanted = {limit.selector: limit for limit in limits}
    changes = Changes(
        [selector for selector in wanted if selector not in known],
        [selector for selector in wanted if selector in known and known[selector] != wanted[selector]],
        [selector for selector in known if selector not in wanted],
    )
    await _publish(settings, {selector: wanted.get(selector) for names in changes for selector in names})
    return changes


async def ask_usage(settings: Settings, selector: Selector) -> tuple[list[AccountUsage], bool]:
    """The nearest to a limit first, and whether these are all. A tenant of `*` means everybody's.

    Raises StackError when the meters, or Kafka, don't answer.
    """
    tenant = "" if selector.tenant == "*" else selector.tenant
    partitions = [partition_of(tenant.encode(), settings.tenant_partitions)] if tenant else None
    async with kafka_admin(settings):  # one sentence where there is no Kafka
        pass
    silence = "The meters didn't say what is used: is the stack running?"
    async with hotline(settings, patience_seconds=_PATIENCE_SECONDS, silence=silence) as line:
        asked = set()
        for partition in partitions or range(settings.tenant_partitions):
            question = _question(tenant, selector, line.reply_to)
            await line.ask(Topics.of(settings).admitted, question.to_headers(), partition=partition)
            asked.add(question.ce_id)
        answers = [UsageAnswer.model_validate_json(record.value) for record in await line.answers(asked)]
    accounts = [account for answer in answers for account in answer.accounts]
    accounts.sort(key=lambda account: account.share, reverse=True)
    return accounts, all(answer.complete for answer in answers)


def _question(tenant: str, selector: Selector, reply_to: str) -> UsageQuestion:
    return UsageQuestion(
        ce_id=str(ULID()),
        reply_to=reply_to,
        tenant=tenant,
        user=selector.user or "",
        feature=selector.feature or "",
        api_key_id=selector.api_key or "",
    )


async def _publish(settings: Settings, limits: Mapping[Selector, Limit | None]) -> None:
    """In one batch, which Kafka keeps or loses as a whole."""
    if not limits:
        return
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        batch = producer.create_batch()
        for selector, limit in limits.items():
            value = limit.encode() if limit else None
            batch.append(key=selector.encode(), value=value, timestamp=None)
        batch.close()
        await (await producer.send_batch(batch, Topics.of(settings).limits, partition=0))


def _order(selector: Selector) -> tuple[bool, list[str]]:
    """Those of each tenant first."""
    return selector.tenant != "*", [name or "" for name in selector]
