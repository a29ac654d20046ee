"""`routes.toml`: the models that are served, and the policy that chooses one for `model: "auto"`."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contracts.errors import ConfigError
from contracts.settings import EngineName

AUTO = "auto"
ScorerName = Literal["features", "learned"]
M = TypeVar("M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SyntheticTiming(_Strict):
    """A continuous-batching timing model: each step costs `step_us` plus its prefill and decode tokens."""

    step_us: int = Field(12_000, ge=0, description="fixed cost of one engine step, microseconds")
    prefill_us_per_token: float = Field(60.0, ge=0)
    decode_us_per_sequence: float = Field(120.0, ge=0)
    kv_tokens: int = Field(400_000, ge=1, description="KV cache, tokens")
    max_batch_tokens: int = Field(8192, ge=1, description="prefill tokens in one step")


class ModelSpec(_Strict):
    """One served model."""

    engine: EngineName | None = Field(None, description="the worker's default engine when unset")
    source: str | None = Field(
        None, description="the engine's name for it: a Hugging Face id, a folder, an upstream's model"
    )
    version: str = "1"
    context_tokens: int = Field(32_768, ge=16)
    default_output_tokens: int = Field(256, ge=1, description="reserved when the caller sets no max_tokens")
    synthetic: SyntheticTiming = SyntheticTiming()


class Rule(_Strict):
    """Sends a request to `model` when it is within every bound; the first rule that fits wins."""

    name: str
    model: str
    max_complexity: float = Field(1.0, ge=0, le=1)
    max_prompt_tokens: int | None = Field(None, ge=1)


class Catalogue(_Strict):
    version: str = Field(description="cited in the ledger as router_version")
    scorer: ScorerName = Field("learned", description="what `max_complexity` is compared with: docs/routing.md")
    models: dict[str, ModelSpec] = Field(min_length=1)
    rules: list[Rule] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for rule in self.rules:
            if rule.model not in self.models:
                raise ValueError(f"rule {rule.name!r} names the model {rule.model!r}, which is not under [models]")
        if AUTO in self.models:
            raise ValueError('a model can\'t be named "auto"')
        slugs = {re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in self.models}
        if len(slugs) != len(self.models):
            raise ValueError("two models' names differ only in punctuation: their topics would be the same")
        return self

    def knows(self, model: str) -> bool:
        return model == AUTO or model in self.models


def load_catalogue(path: Path | None = None) -> Catalogue:
    """The policy file, or the shipped one. Raises ConfigError naming what is wrong."""
    return load_toml(path, "routes.toml", Catalogue)


def load_toml(path: Path | None, shipped: str, model: type[M]) -> M:
    """Raises ConfigError when the file can't be read or doesn't fit."""
    try:
        text = path.read_text() if path else files("contracts").joinpath(shipped).read_text()
        return model.model_validate(tomllib.loads(text))
    except OSError as error:
        raise ConfigError(f"{path or shipped} can't be read: {error.strerror}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path or shipped} is not valid TOML: {error}.") from None
    except ValidationError as error:
        raise ConfigError(f"{path or shipped}: {_first(error.errors(include_url=False)[0])}") from None


def _first(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}." if where else f"{error['msg']}."
