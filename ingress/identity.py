"""A request's identity: the tenant of its API key, and its idempotency key, given or made."""

from collections.abc import Iterator
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import Scope

from contracts.errors import InvalidIdempotencyKey
from contracts.keyring import KeyRing
from contracts.keys import RequestKey, check_idempotency_key, new_idempotency_key, parse_idempotency_header
from contracts.logs import concerns
from ingress.spans import trace_headers

HEADER = b"idempotency-key"
AUTO = "auto"  # asks for a key that is made from the body: the same question is then the same request
_SCOPE = "millrace.identity"


class Identity(NamedTuple):
    key: RequestKey
    generated: bool  # the caller learns it from the answer: until then it can't repeat the same request


def identify(scope: Scope, tenant: str) -> Identity:
    """Names the request; from here on every answer, errors too, carries its key. Raises InvalidIdempotencyKey."""
    values = [value for name, value in scope["headers"] if name == HEADER]
    if len(values) > 1:
        raise InvalidIdempotencyKey("Send one Idempotency-Key header, not several.", param="Idempotency-Key")
    key = parse_idempotency_header(values[0].decode("latin-1")) if values else new_idempotency_key()
    return name(scope, Identity(RequestKey(tenant, key), generated=not values))


def identify_by_path(request: Request, keyring: KeyRing) -> Identity:
    """For what is asked about another request, whose key is in the path. Raises Unauthorized, InvalidIdempotencyKey."""
    caller = keyring.authenticate(dict(request.scope["headers"]).get(b"authorization"))
    key = RequestKey(caller.tenant, check_idempotency_key(request.path_params["key"]))
    return name(request.scope, Identity(key, generated=False))


def derive(scope: Scope, identity: Identity, fingerprint: str) -> Identity:
    """`auto` becomes a key of its own for each body; any other key stays."""
    if identity.key.idempotency_key != AUTO:
        return identity
    return name(scope, identity._replace(key=RequestKey(identity.key.tenant, f"{AUTO}-{fingerprint}")))


def name(scope: Scope, identity: Identity) -> Identity:
    scope[_SCOPE] = identity
    concerns(identity.key.encode(), _Trace(scope))
    return identity


class _Trace:
    """Looked up when a line is written."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        given = ((name.decode("latin-1"), value) for name, value in self._scope["headers"])
        yield from trace_headers().items() or given


def identity_of(scope: Scope) -> Identity | None:
    """None before the request was named."""
    identity: Identity | None = scope.get(_SCOPE)
    return identity
