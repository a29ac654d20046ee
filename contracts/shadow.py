"""Shadow runs: for a share of what was answered another model runs as well, to learn which answers it would have given.

Nobody waits for them, nobody is billed for them, and their answers are thrown away once they were compared.
"""

import hashlib

from pydantic import BaseModel, ConfigDict, Field

_SPACE = 2.0**64


class Shadow(BaseModel):
    """What a rule says of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(gt=0, le=1, description="of the rule's answered requests, by a hash of the request's key")
    model: str = Field(description="runs too, in the batch lane, while its workers have nothing else to do")

    def draws(self, request_key: str) -> bool:
        """Always the same for the same key; a larger share keeps those of a smaller one. Independent of splits."""
        digest = hashlib.blake2b(request_key.encode(), digest_size=8, person=b"shadow").digest()
        return int.from_bytes(digest) / _SPACE < self.share
