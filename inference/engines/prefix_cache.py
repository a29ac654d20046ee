"""The synthetic engine's prefix cache: which leading blocks of a prompt were seen lately."""

from collections import OrderedDict

from contracts.tokens import BYTES_PER_TOKEN

BLOCK_TOKENS = 128  # as vLLM's blocks on a CPU
_BLOCK_BYTES = BLOCK_TOKENS * BYTES_PER_TOKEN


class PrefixCache:
    """Least recently used blocks go first. A block counts only together with all blocks before it."""

    def __init__(self, capacity_tokens: int) -> None:
        self._capacity = max(capacity_tokens // BLOCK_TOKENS, 1)
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def match_and_insert(self, prompt: bytes) -> int:
        """Tokens of the prompt that are cached, in whole blocks; from now on all of its whole blocks are.

        The last byte is never within a block: an engine must compute at least one token.
        """
        blocks = self._blocks
        parent, cached, unbroken = 0, 0, True
        for start in range(0, len(prompt) - _BLOCK_BYTES, _BLOCK_BYTES):
            parent = hash((parent, prompt[start : start + _BLOCK_BYTES]))
            unbroken = unbroken and parent in blocks
            cached += unbroken
            blocks[parent] = None
            blocks.move_to_end(parent)
        while len(blocks) > self._capacity:
            blocks.popitem(last=False)
        return cached * BLOCK_TOKENS
