"""What a record on `requests` must be before it may mean anything: the checks that direct producers haven't had."""

from dataclasses import dataclass
from typing import NamedTuple

from contracts.bodies import Described, describe
from contracts.catalogue import Catalogue
from contracts.completion import Completion
from contracts.envelope import Digest, Envelope, Operation, Work
from contracts.errors import InvalidRequest, UnknownModel
from contracts.headers import RawHeaders, header_name
from contracts.keys import RequestKey
from contracts.tags import parse_tags
from contracts.tokenizer import Tokenizers
from streams.records import Record

_OPERATIONS: dict[bytes, Operation] = {b"chat": "chat", b"text_completion": "text_completion"}
_DIGEST = frozenset(header_name(field) for field in Digest.model_fields)
_WHOLE_DIGEST = _DIGEST - {"max-tokens", "prompt-count"}  # absent when nobody caps or counts
_LATER = frozenset(header_name(field) for model in (Work, Completion) for field in model.model_fields) - frozenset(
    header_name(field) for model in (Envelope, Digest) for field in model.model_fields
)
_HERE = frozenset(("caller", "on-disconnect"))  # what concerns the owner of the key alone
_DROPPED = _LATER | _HERE


class Request(NamedTuple):
    """A checked request: its digest, and the headers that it goes on with."""

    digest: Digest
    headers: RawHeaders


@dataclass(frozen=True, slots=True)
class Intake:
    catalogue: Catalogue
    tokenizers: Tokenizers

    def envelope(self, record: Record, key: RequestKey) -> Envelope:
        """Raises InvalidRequest naming the header that doesn't fit."""
        envelope = Envelope.from_headers(record.headers)
        if envelope.tenant not in (None, key.tenant):
            raise InvalidRequest("Header tenant must equal the record key's tenant.", param="tenant")
        _check(envelope)
        return envelope

    def request(self, record: Record, envelope: Envelope) -> Request:
        """Raises InvalidRequest. Headers that only later stages may write are dropped: nobody forges them."""
        names = {name for name, _ in record.headers}
        if names >= _WHOLE_DIGEST:
            headers = [pair for pair in record.headers if pair[0] not in _DROPPED]
            digest = Digest.from_headers(headers)
        else:
            headers, digest = self._read_body(record, envelope)
            _check(Envelope.from_headers(headers))
        if not self.catalogue.knows(digest.requested_model):
            raise UnknownModel(f"The model {digest.requested_model!r} is not served here.", param="model")
        return Request(digest, headers)

    def _read_body(self, record: Record, envelope: Envelope) -> tuple[RawHeaders, Digest]:
        given = dict(record.headers).get("operation")
        if given is not None and given not in _OPERATIONS:
            raise InvalidRequest("Header operation must be chat or text_completion.", param="operation")
        described = describe(record.value, _OPERATIONS[given] if given is not None else None, self.tokenizers)
        kept = [pair for pair in record.headers if pair[0] not in _DROPPED and pair[0] not in _DIGEST]
        return kept + _attribution(described, envelope) + described.digest.to_headers(), described.digest


def _check(envelope: Envelope) -> None:
    """What the header models leave open: the ledger takes tags as a map."""
    parse_tags(envelope.tags)


def _attribution(described: Described, envelope: Envelope) -> RawHeaders:
    """What the body says of user, feature and tags, where the headers say nothing."""
    said = {"user": described.user, "feature": described.feature, "tags": described.tags}
    return [(name, value.encode()) for name, value in said.items() if value and not getattr(envelope, name)]
