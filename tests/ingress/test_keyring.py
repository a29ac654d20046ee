import pytest

from contracts.api_keys import ApiKey, hash_api_key
from contracts.errors import Unauthorized
from contracts.keyring import KeyRing
from tests.support.ingress import Record


def record(secret: str, key: ApiKey | None) -> Record:
    return Record(hash_api_key(secret), key.model_dump_json().encode() if key else None, [])


def test_the_latest_record_of_a_key_counts() -> None:
    ring = KeyRing()
    first, second = (ApiKey(id=name, tenant="acme", created_at=0) for name in "ab")
    ring.apply([record("s", first), record("s", second), record("t", first)])
    assert ring.authenticate(b"Bearer s") == second
    assert ring.authenticate(b"bearer  t ") == first
    ring.apply([record("s", None)])
    with pytest.raises(Unauthorized):
        ring.authenticate(b"Bearer s")


def test_a_record_that_cant_be_read_gives_no_access_and_does_no_harm() -> None:
    ring = KeyRing()
    good = ApiKey(id="a", tenant="acme", created_at=0)
    ring.apply([record("s", good), Record(hash_api_key("s"), b"{", []), record("t", good)])
    assert ring.authenticate(b"Bearer t") == good
    with pytest.raises(Unauthorized):
        ring.authenticate(b"Bearer s")


@pytest.mark.parametrize("header", [None, b"", b"Bearer", b"Bearer \xff\xfe", b"Basic s", b"s"])
def test_anything_else_is_refused(header: bytes | None) -> None:
    ring = KeyRing()
    ring.apply([record("s", ApiKey(id="a", tenant="acme", created_at=0))])
    with pytest.raises(Unauthorized):
        ring.authenticate(header)
