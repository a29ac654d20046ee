"""Every topic: its name, partitions and settings. Nothing else in the code spells a topic's name."""

import re
from dataclasses import dataclass, field

from contracts.catalogue import Catalogue
from contracts.envelope import Lane, ReplyTo
from contracts.errors import InvalidRequest
from contracts.settings import Settings

LANES: tuple[Lane, ...] = ("interactive", "batch")
_HOUR_MS = 3_600_000
# Kafka never compacts a segment that is still written to, and by its defaults that is a gigabyte or a week of each
# partition. Deletions must stay visible for longer than streams/changelog.py trusts a disk that missed them.
_COMPACTED = {
    "cleanup.policy": "compact",
    "retention.ms": "-1",
    "segment.bytes": str(32 << 20),
    "segment.ms": str(_HOUR_MS),
    "min.cleanable.dirty.ratio": "0.3",
    "max.compaction.lag.ms": str(12 * _HOUR_MS),
    "delete.retention.ms": str(24 * _HOUR_MS),
}
# A beat a second of each worker, of which only the last one matters: what is compacted soon is soon read.
_BEATS = {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(24 * _HOUR_MS),
    "segment.bytes": str(16 << 20),
    "segment.ms": str(_HOUR_MS // 6),
    "min.cleanable.dirty.ratio": "0.1",
    "delete.retention.ms": str(_HOUR_MS),
}


@dataclass(frozen=True, slots=True)
class TopicSpec:
    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topics:
    """Names under one prefix."""

    prefix: str = ""

    @classmethod
    def of(cls, settings: Settings) -> "Topics":
        return cls(settings.topic_prefix)

    @property
    def requests(self) -> str:
        return f"{self.prefix}requests"

    @property
    def admitted(self) -> str:
        return f"{self.prefix}admitted"

    @property
    def completions(self) -> str:
        return f"{self.prefix}completions"

    @property
    def responses(self) -> str:
        return f"{self.prefix}responses"

    @property
    def usage(self) -> str:
        return f"{self.prefix}usage"

    @property
    def control(self) -> str:
        return f"{self.prefix}control"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}dead-letters"

    @property
    def dead_letters_handled(self) -> str:
        return f"{self.prefix}dead-letters-handled"

    @property
    def api_keys(self) -> str:
        return f"{self.prefix}api-keys"

    @property
    def routes(self) -> str:
        return f"{self.prefix}routes"

    @property
    def limits(self) -> str:
        return f"{self.prefix}limits"

    @property
    def workers(self) -> str:
        return f"{self.prefix}workers"

    @property
    def feedback(self) -> str:
        return f"{self.prefix}feedback"

    @property
    def engine_time(self) -> str:
        return f"{self.prefix}engine-time"

    @property
    def duplicates(self) -> str:
        return f"{self.prefix}duplicates"

    @property
    def streams_app(self) -> str:
        """Faust's application id, which is also its consumer group."""
        return f"{self.prefix}millrace-streams"

    def changelog(self, table: str) -> str:
        return f"{self.streams_app}-{table}-changelog"

    def work(self, model: str, lane: Lane) -> str:
        return f"{self.prefix}work.{slug(model)}.{lane}"

    def worker_group(self, model: str) -> str:
        return f"{self.prefix}millrace-worker.{slug(model)}"

    @property
    def feedback_group(self) -> str:
        return f"{self.prefix}millrace-feedback"

    @property
    def sink_group(self) -> str:
        return f"{self.prefix}millrace-analytics"

    def check_reply_to(self, text: str) -> ReplyTo:
        """A reply topic is `responses`, or one whose name begins with `responses.`, so that nobody can have frames
        written into a topic that means something else. Raises InvalidRequest."""
        address = ReplyTo.parse(text)
        if address.topic != self.responses and not address.topic.startswith(f"{self.responses}."):
            raise InvalidRequest(f"A reply topic's name begins with {self.responses}.", param="reply-to")
        return address


REQUEST_TABLE = "requests"  # dedupe and settle; P partitions
TENANT_TABLE = "tenants"  # meter; Q partitions
GROWTH_BYTES = 131_072  # above the largest body: what the largest request may grow by, headers and all, on its way


def slug(model: str) -> str:
    """A model's name within a topic's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", model)


def all_topics(settings: Settings, catalogue: Catalogue) -> list[TopicSpec]:
    """What must exist before any service starts: the streams never see a topic that is made later."""
    topics = Topics.of(settings)
    p, q = settings.request_partitions, settings.tenant_partitions
    kept = {
        "retention.ms": str(settings.retention_hours * _HOUR_MS),
        "max.message.bytes": str(settings.max_body_bytes + 65_536),
    }
    kept_on = kept | {"max.message.bytes": str(settings.max_body_bytes + GROWTH_BYTES)}
    frames = kept_on | {"retention.ms": str(settings.response_retention_minutes * 60_000)}
    changelog = kept_on | _COMPACTED
    longest_ms = (max(settings.idempotency_window_hours, settings.retention_hours) + 48) * _HOUR_MS
    requests_changelog = changelog | {"cleanup.policy": "compact,delete", "retention.ms": str(longest_ms)}
    specs = [
        TopicSpec(topics.requests, p, kept),
        TopicSpec(topics.completions, p, kept_on),
        TopicSpec(topics.control, p, kept),
        TopicSpec(topics.admitted, q, kept_on),
        TopicSpec(topics.usage, q, kept_on),
        TopicSpec(topics.feedback, q, kept),
        TopicSpec(topics.engine_time, 1, kept),
        TopicSpec(topics.duplicates, q, kept),
        TopicSpec(topics.responses, settings.response_partitions, frames),
        TopicSpec(topics.dead_letters, 1, kept_on | {"retention.ms": "-1"}),
        TopicSpec(topics.dead_letters_handled, 1, {"cleanup.policy": "compact"}),
        TopicSpec(topics.api_keys, 1, {"cleanup.policy": "compact"}),
        TopicSpec(topics.limits, 1, {"cleanup.policy": "compact"}),
        TopicSpec(topics.workers, 1, _BEATS),
        TopicSpec(topics.routes, 1, {"cleanup.policy": "compact", "max.message.bytes": kept["max.message.bytes"]}),
        TopicSpec(topics.changelog(REQUEST_TABLE), p, requests_changelog),
        TopicSpec(topics.changelog(TENANT_TABLE), q, changelog),
    ]
    specs += [
        TopicSpec(topics.work(model, lane), settings.work_partitions, kept_on)
        for model in catalogue.models
        for lane in LANES
    ]
    return specs
