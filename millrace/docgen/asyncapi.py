"""AsyncAPI 3.0 document of the topics: who writes what, who reads it, with which key, headers and value.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from typing import Any, NamedTuple

from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import Topics, all_topics
from millrace.docgen.schemas import schema_documents

REQUEST_KEY = {"type": "string", "description": "tenant:idempotency_key"}
TENANT_KEY = {"type": "string", "description": "tenant"}


class Channel(NamedTuple):
    topic: str
    about: str
    key: dict[str, Any]
    headers: str | None
    payload: list[str]
    writers: tuple[str, ...]
    readers: tuple[str, ...]


BODIES = ["chat-completion-request", "completion-request"]
ANSWERS = "An OpenAI response or error object, as the client will see it."


def _channels(topics: Topics) -> dict[str, Channel]:
    return _flow(topics) | _answers_and_bills(topics) | _beside(topics) | _steering(topics)


def _flow(topics: Topics) -> dict[str, Channel]:
    """A request's way to a worker and back to settle; and what workers say of themselves."""
    return {
        "requests": Channel(
            topics.requests,
            "What clients ask, body untouched.",
            REQUEST_KEY,
            "request-headers",
            BODIES,
            ("ingress", "producers"),
            ("streams",),
        ),
        "admitted": Channel(
            topics.admitted,
            "First sight of a request.",
            TENANT_KEY,
            "admitted-headers",
            BODIES,
            ("streams",),
            ("streams",),
        ),
        "work": Channel(
            f"{topics.prefix}work.{{model}}.{{lane}}",
            "Work for one model.",
            REQUEST_KEY,
            "work-headers",
            BODIES,
            ("streams",),
            ("inference",),
        ),
        "completions": Channel(
            topics.completions,
            "Every terminal outcome. " + ANSWERS + " Beside these, with headers of their own and ending nothing: "
            "escalation-headers (the value is the request's body), shadow-wanted-headers (likewise), shadowed-headers.",
            REQUEST_KEY,
            "completion-headers",
            [],
            ("inference", "streams"),
            ("streams",),
        ),
        "workers": Channel(
            topics.workers,
            "Heartbeats: what each worker serves, does and has waiting (compacted; a tombstone when it stops).",
            {"type": "string", "description": "the worker's name"},
            None,
            ["worker-beat"],
            ("inference",),
            ("ingress", "streams", "operators"),
        ),
    }


def _answers_and_bills(topics: Topics) -> dict[str, Channel]:
    return {
        "responses": Channel(
            topics.responses,
            "Frames for waiting clients: OpenAI chunks (delta), whole response (final), error object (error), state.",
            REQUEST_KEY,
            "frame-headers",
            [],
            ("inference", "streams"),
            ("ingress", "subscribers"),
        ),
        "usage": Channel(
            topics.usage,
            "One event per request, plus waste events.",
            TENANT_KEY,
            None,
            ["usage-event"],
            ("streams",),
            ("streams", "analytics"),
        ),
    }


def _beside(topics: Topics) -> dict[str, Channel]:
    """What is told, wished and put aside beside the flow."""
    return {
        "engine-time": Channel(
            topics.engine_time,
            "What each engine's GPUs did with their time, stretch by stretch: charged to requests, idle, under way.",
            {"type": "string", "description": "model"},
            None,
            ["engine-time"],
            ("inference",),
            ("analytics",),
        ),
        "duplicates": Channel(
            topics.duplicates,
            "Requests that were answered without a run of their own.",
            TENANT_KEY,
            None,
            ["duplicate"],
            ("streams",),
            ("analytics",),
        ),
        "feedback": Channel(
            topics.feedback,
            "How good answers were, as callers say; the latest on a request counts.",
            REQUEST_KEY,
            None,
            ["feedback"],
            ("ingress", "producers"),
            ("analytics",),
        ),
        "control": Channel(
            topics.control,
            "Wishes to cancel, from direct producers; and orders to workers, which name a claim.",
            REQUEST_KEY,
            "control-headers",
            [],
            ("producers", "streams"),
            ("streams", "inference"),
        ),
        "dead-letters": Channel(
            topics.dead_letters,
            "What could not be understood, as it came, with the reason.",
            {"type": "string", "description": "as it came"},
            "dead-letter-headers",
            [],
            ("streams", "inference", "analytics"),
            ("operators",),
        ),
    }


def _steering(topics: Topics) -> dict[str, Channel]:
    """What operators write, and the services heed."""
    return {
        "dead-letters-handled": Channel(
            topics.dead_letters_handled,
            "Which dead letters an operator has redriven or dropped (compacted).",
            {"type": "string", "description": "<partition>.<offset> of the letter on dead-letters"},
            None,
            ["dead-letter-handled"],
            ("operators",),
            ("operators",),
        ),
        "routes": Channel(
            topics.routes,
            "The routing policy in force (compacted; a tombstone gives it back to each process's own file).",
            {"type": "string", "const": "policy"},
            None,
            ["policy-record"],
            ("operators",),
            ("streams",),
        ),
        "api-keys": Channel(
            topics.api_keys,
            "API keys by their SHA-256 (compacted; a tombstone revokes).",
            {"type": "string", "description": "SHA-256 of the key, hex"},
            None,
            ["api-key"],
            ("operators",),
            ("ingress",),
        ),
        "limits": Channel(
            topics.limits,
            "Limits, each by whose it is (compacted; a tombstone ends it).",
            {"type": "string", "description": "JSON array: tenant, user, feature, API key's id"},
            None,
            ["limit"],
            ("operators",),
            ("streams",),
        ),
    }


def asyncapi_document() -> dict[str, Any]:
    settings, catalogue = Settings.model_construct(), load_catalogue()
    channels = _channels(Topics.of(settings))
    partitions = {spec.name: spec.partitions for spec in all_topics(settings, catalogue)}
    partitions[channels["work"].topic] = settings.work_partitions
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Millrace topics",
            "version": "1.0.0",
            "description": "Durable LLM inference on Kafka. Header values are text in UTF-8; booleans are 1 and 0.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": settings.kafka_bootstrap_servers, "protocol": "kafka"}},
        "channels": {name: _channel(name, channel, partitions) for name, channel in channels.items()},
        "operations": _operations(channels),
        "components": {
            "schemas": {name: _inline(schema) for name, schema in schema_documents().items()},
            "messages": {name: _message(name, channel) for name, channel in channels.items()},
        },
    }


def _channel(name: str, channel: Channel, partitions: dict[str, int]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "address": channel.topic,
        "description": channel.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": {"partitions": partitions[channel.topic]}},
    }
    if "{model}" in channel.topic:
        described["parameters"] = {
            "model": {"description": "the model's name; characters other than letters, digits, _ and - become _"},
            "lane": {"enum": ["interactive", "batch"]},
        }
    return described


def _message(name: str, channel: Channel) -> dict[str, Any]:
    message: dict[str, Any] = {"name": name, "summary": channel.about, "bindings": {"kafka": {"key": channel.key}}}
    if channel.headers:
        message["headers"] = {"$ref": f"#/components/schemas/{channel.headers}"}
    if channel.payload:
        refs = [{"$ref": f"#/components/schemas/{schema}"} for schema in channel.payload]
        message["payload"] = refs[0] if len(refs) == 1 else {"oneOf": refs}
    else:
        message["payload"] = {"type": "object", "description": ANSWERS}
    return message


def _operations(channels: dict[str, Channel]) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for name, channel in channels.items():
        for action, parties in (("send", channel.writers), ("receive", channel.readers)):
            for party in parties:
                operations[f"{party}-{action}-{name}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{name}"},
                    "title": f"{party} {action}s on {channel.topic}",
                }
    return operations


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """AsyncAPI resolves `#/$defs` against the whole document: put each definition where it is used."""
    definitions = schema.get("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rpartition("/")[2]]) | {
                k: v for k, v in node.items() if k != "$ref"
            }
        return {key: resolve(value) for key, value in node.items() if key != "$defs" and not _is_openapis(key, value)}

    resolved: dict[str, Any] = resolve(schema)
    return resolved


def _is_openapis(key: str, value: Any) -> bool:
    """Its discriminator is an object, AsyncAPI's a string; each alternative has its constant `type` anyway."""
    return key == "discriminator" and isinstance(value, dict)
