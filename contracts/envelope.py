"""The envelope of a request: CloudEvents 1.0 in binary mode over Kafka, plus attribution, lane and reply address.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from enum import StrEnum
from typing import Literal, NamedTuple, Self

from pydantic import Field

from contracts.errors import InvalidRequest
from contracts.headers import HeaderModel

Operation = Literal["chat", "text_completion"]  # OTel GenAI: gen_ai.operation.name
Lane = Literal["interactive", "batch"]
OnDisconnect = Literal["cancel", "detach", "drain"]  # what a caller that hangs up wants of its request


class RequestType(StrEnum):
    """What a record on `requests` asks for (`ce_type`)."""

    REQUEST = "millrace.request.v1"  # run this body
    LOOKUP = "millrace.lookup.v1"  # say how it stands
    ATTACH = "millrace.attach.v1"  # say how it stands, then answer when it ends
    CANCEL = "millrace.cancel.v1"  # end it with what it has, and answer as to an attach
    LEAVE = "millrace.leave.v1"  # this caller has hung up
    FORGET = "millrace.forget.v1"  # remove the stored answer; nobody is answered


class Envelope(HeaderModel):
    """Headers of a record on `requests`. A direct producer may leave out all: the key names the tenant."""

    ce_specversion: Literal["1.0"] = "1.0"
    ce_id: str = Field("", max_length=255, description="unique per record; answers meant for one asker cite it")
    ce_source: str = Field("", max_length=255, description="who wrote the record, e.g. /ingress/3f2a")
    ce_type: RequestType = RequestType.REQUEST
    ce_time: str = Field("", max_length=64, description="RFC 3339, for readers; decisions use the record's timestamp")
    tenant: str | None = Field(None, description="must equal the record key's first half when given")
    user: str = Field("", max_length=255)
    feature: str = Field("", max_length=255)
    tags: str = Field("", max_length=2048, description="name=value, comma-separated")
    api_key_id: str = Field("", max_length=64)
    lane: Lane = "interactive"
    priority: int = Field(0, ge=-100, le=100, description="lower first, within a lane")
    deadline: int | None = Field(None, ge=0, description="UTC ms after which it must not start")
    max_cost: int | None = Field(None, ge=0, description="cost ceiling for routing, nano-dollars")
    reply_to: str | None = Field(None, max_length=300, description="topic/partition, or topic")
    redrive: str | None = Field(
        None, max_length=64, description="<partition>.<offset> of a claim that failed: lets its key run once more"
    )
    traceparent: str = Field("", max_length=128, description="W3C trace context")
    tracestate: str = Field("", max_length=4096, description="W3C trace context: what other tracers say")
    caller: str = Field("", max_length=64, description="one that waits, and says by a leave when it hangs up")
    on_disconnect: OnDisconnect | None = Field(None, description="of a leave: what becomes of it when all have left")


class Digest(HeaderModel):
    """What the one parse of the body found out, so that no later stage must parse it again."""

    operation: Operation
    requested_model: str = Field(max_length=255)
    fingerprint: str = Field(
        min_length=32, max_length=32, description="hex, over the canonical body; see fingerprint.py"
    )
    stream: bool = False
    include_usage: bool = False
    prompt_estimate: int = Field(ge=0, description="estimated tokens")
    prompt_count: int | None = Field(
        None, ge=0, description="tokens by the requested model's own tokenizer; absent where it has none or can't tell"
    )
    max_tokens: int | None = Field(None, ge=1, description="the caller's cap on output tokens")

    def counted(self, model: str) -> int | None:
        """Tokens of the prompt, where that model's own tokenizer has counted them."""
        return self.prompt_count if model == self.requested_model else None


class Claim(NamedTuple):
    """The record on `requests` that claimed a key: the epoch of its run."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidRequest."""
        partition, _, offset = text.partition(".")
        if not (partition.isdigit() and offset.isdigit()):
            raise InvalidRequest("Header claim must be <partition>.<offset>.", param="claim")
        return cls(int(partition), int(offset))


class Admitted(Envelope, Digest):
    """Headers of a record on `admitted`: envelope and digest, and what dedupe adds."""

    request_key: str = Field(description="tenant:idempotency_key; the record key is the tenant")
    claim: str = Field(description="<partition>.<offset> of the claiming record")
    accepted_at: int = Field(description="UTC ms: timestamp of the claiming record")
    deduped_at: int = Field(description="UTC ms")


class Work(Admitted):
    """Headers of a record on `work.<model>.<lane>`: what meter and route add."""

    model: str = Field(description="the model that serves it")
    route: str = Field(description="the rule that chose it")
    complexity: float = Field(ge=0, le=1)
    router_version: str
    reserved_tokens: int = Field(ge=0)
    admitted_at: int = Field(description="UTC ms")
    rate_limits: str = Field("", description="the caller's limits and what is left of them; see rate_limits.py")
    turn: int = Field(0, ge=0, description="offset on `admitted`: of a tenant's requests the lower one goes first")
    fallback_from: str = Field("", description="the model that should have served it, when another one does")
    fallback_reason: str = Field("", description="why: no_worker, failing, over_capacity or failed")
    estimated_start: int | None = Field(
        None, description="UTC ms: when it was expected to start, as it was let through"
    )
    cascade: str = Field("", description="when the answer doesn't stand, and who answers then; see cascade.py")
    attempt: int = Field(1, ge=1, description="2: of the cascade's second model")
    escalated: str = Field("", description="why the first attempt's answer didn't stand")
    first: str = Field(
        "", description="of a second attempt: what the first answer took, JSON; see completion.FirstAnswer"
    )
    first_answer: str = Field("", description="of a second attempt: that answer, should this one fail")
    shadow: str = Field("", description="the model that is to run too, once this one has answered; see shadow.py")
    shadow_of: str = Field("", description="of a shadow run: the model that has answered")
    answered: str = Field("", description="of a shadow run: the digest of that answer")


class ReplyTo(NamedTuple):
    """A reply address: a partition of a responses topic, or a topic where frames are partitioned by key."""

    topic: str
    partition: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidRequest."""
        topic, _, partition = text.partition("/")
        if not topic or (partition and not partition.isdigit()):
            raise InvalidRequest("Header reply-to must be <topic> or <topic>/<partition>.", param="reply-to")
        return cls(topic, int(partition) if partition else None)

    def __str__(self) -> str:
        return self.topic if self.partition is None else f"{self.topic}/{self.partition}"
