"""Messages on the WebSocket `/v1/ws`, each one JSON object. The server may put several into one WebSocket message, one
on each line. `ref` is the client's own name for what it began: unique among what it follows at the time."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from contracts.envelope import Operation

Ref = Annotated[str, Field(min_length=1, max_length=64)]
Key = Annotated[str, Field(min_length=1, max_length=255, description="idempotency key")]


class _FromClient(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    ref: Ref


class Create(_FromClient):
    """Run a request, or join it, as the HTTP POST does; the answer is always streamed."""

    type: Literal["create"]
    body: dict[str, Any] = Field(description="an OpenAI request body")
    operation: Operation = "chat"
    key: Key | None = Field(None, description="idempotency key; made when absent, `auto` derives it from the body")
    headers: dict[str, str] = Field({}, description="as over HTTP: Millrace-Feature, Millrace-Deadline, …")


class Follow(_FromClient):
    """Hear a request that was asked before, from the beginning or after an event."""

    type: Literal["follow"]
    key: Key
    after: str = Field("", max_length=64, description="the id of the last event that was heard")
    include_usage: bool = False


class Cancel(_FromClient):
    """End a request with what it has; answered by a `state`, or an `error` when it is too late."""

    type: Literal["cancel"]
    key: Key


class Leave(_FromClient):
    """Hear no more of this `ref`, as if its connection were lost."""

    type: Literal["leave"]


class ClientMessage(RootModel[Annotated[Create | Follow | Cancel | Leave, Field(discriminator="type")]]):
    """What a client says."""


class _FromServer(BaseModel):
    ref: str


class Accepted(_FromServer):
    """Kafka has the request."""

    type: Literal["accepted"] = "accepted"
    key: str


class Chunk(_FromServer):
    type: Literal["chunk"] = "chunk"
    id: str = Field(description="of this event: for `follow` after a lost connection, or for Last-Event-ID over HTTP")
    chunk: dict[str, Any] = Field(description="an OpenAI chunk")


class Done(_FromServer):
    """The stream is whole; nothing comes after it."""

    type: Literal["done"] = "done"
    id: str


class State(_FromServer):
    type: Literal["state"] = "state"
    state: dict[str, Any] = Field(description="a RequestState")


class Failed(_FromServer):
    """Nothing comes after it. `ref` is empty when the message couldn't be understood."""

    type: Literal["error"] = "error"
    status: int = Field(description="what HTTP would have said")
    error: dict[str, Any] = Field(description="OpenAI's error")


class ServerMessage(RootModel[Annotated[Accepted | Chunk | Done | State | Failed, Field(discriminator="type")]]):
    """What the server says."""
