"""A small tokenizer of one's own: byte-level pairs, learned from a few lines."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

LINES = ["the quick brown fox jumps over the lazy dog", "hello there, how are you today?", "tokens are what is billed"]


def write_tokenizer(path: Path) -> Tokenizer:
    """It puts `<s>` before each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, special_tokens=["<s>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(path))
    return tokenizer
