"""A prompt's length as its model will count it: by the model's own tokenizer, where `routes.toml` names its file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from contracts.catalogue import Catalogue
from contracts.errors import ConfigError

_SLICES = 64
_SLICE_CHARS = 128  # of each: 2 to 4 ms in all, and the package lets nothing else run meanwhile
_PROBE = "What can't be 'encoded'? \N{CRAB}"

Encode = Callable[[str], int]  # tokens of a text, special ones that go before and after it included


class Tokenizer:
    def __init__(self, encode: Encode) -> None:
        self._encode = encode

    def count(self, text: str) -> int:
        """Tokens: exact up to 8,192 characters; beyond, by slices from all over it, whose cuts add a few percent."""
        if len(text) <= _SLICES * _SLICE_CHARS:
            return self._encode(text)
        step = -(-len(text) // _SLICES)
        sample = "".join([text[start : start + _SLICE_CHARS] for start in range(0, len(text), step)])
        return -(-self._encode(sample) * len(text) // len(sample))


Tokenizers = Mapping[str, Tokenizer]  # by model


def load_tokenizers(catalogue: Catalogue, routes_file: Path | None) -> Tokenizers:
    """Of the models that name one, relative to the routes file's folder. Raises ConfigError with what to do."""
    folder = routes_file.parent if routes_file else Path()
    named = {model: folder / spec.tokenizer for model, spec in catalogue.models.items() if spec.tokenizer}
    loaded = {path: Tokenizer(_load(path)) for path in set(named.values())}  # they are large, and models may share one
    return {model: loaded[path] for model, path in named.items()}


def _load(path: Path) -> Encode:
    try:
        import tokenizers  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            f"The tokenizer {path} needs a package that is not installed: pip install 'millrace[tokenizers]', "
            "or leave `tokenizer` out of routes.toml."
        ) from None
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"The tokenizer {path}, named in routes.toml, can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The tokenizer {path}, named in routes.toml, is not UTF-8.") from None
    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode(_PROBE)
    except Exception as error:  # noqa: BLE001 - the package raises nothing more particular
        raise ConfigError(f"The tokenizer {path}, named in routes.toml, doesn't work: {error}.") from None
    return lambda prompt: len(tokenizer.encode(prompt))
