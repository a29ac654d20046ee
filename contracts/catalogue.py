"""`routes.toml`: the models that are served, and the policy that chooses one for `model: "auto"`."""

import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contracts.cascade import Cascade
from contracts.envelope import OnDisconnect
from contracts.errors import ConfigError
from contracts.money import Dollars
from contracts.settings import EngineName
from contracts.shadow import Shadow
from contracts.toml_lines import Place, line_of

AUTO, AUTO_CHEAP, AUTO_BEST = "auto", "auto:cheap", "auto:best"
AUTOMATIC = (AUTO, AUTO_CHEAP, AUTO_BEST)  # asked for as models, and chosen for by the router
ScorerName = Literal["features", "learned"]
Ability = Literal["tools", "vision", "json_schema"]
M = TypeVar("M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AnswerFile(_Strict):
    """Questions, and which of them a synthetic model answers right: JSON lines with `prompt` and a field for each."""

    file: Path
    field: str = Field(description="true where it answers right, as weak_correct")
    wrong_mean_logprob: float | None = Field(None, le=0, description="of its tokens where it is wrong; else the same")


class SyntheticTiming(_Strict):
    """A continuous-batching timing model: each step costs `step_us` plus its prefill and decode tokens."""

    step_us: int = Field(12_000, ge=0, description="fixed cost of one engine step, microseconds")
    prefill_us_per_token: float = Field(60.0, ge=0)
    decode_us_per_sequence: float = Field(120.0, ge=0)
    kv_tokens: int = Field(400_000, ge=1, description="KV cache, tokens")
    max_batch_tokens: int = Field(8192, ge=1, description="prefill tokens in one step")
    mean_logprob: float = Field(-0.2, le=0, description="of its tokens, for cascades: how sure it is of its answers")
    logprob_spread: float = Field(0.0, ge=0, description="how far answers differ in that: of the mean's logarithm")
    answers: AnswerFile | None = Field(None, description="makes it answer right or wrong; for benchmarks of routing")


class ModelSpec(_Strict):
    """One served model. What it costs is in the price table."""

    engine: EngineName | None = Field(None, description="the worker's default engine when unset")
    source: str | None = Field(
        None, description="the engine's name for it: a Hugging Face id, a folder, an upstream's model"
    )
    version: str = "1"
    tokenizer: Path | None = Field(
        None, description="a tokenizer.json, by which prompts are counted; else they are estimated: docs/limits.md"
    )
    context_tokens: int = Field(32_768, ge=16)
    default_output_tokens: int = Field(256, ge=1, description="reserved when the caller sets no max_tokens")
    fallback: tuple[str, ...] = Field(
        (), description="models that take its requests, the first that can, while it is away, failing or too busy"
    )
    abilities: tuple[Ability, ...] = Field(("tools", "json_schema"), description="`auto` sends no other needs here")
    quality: int = Field(0, ge=0, description="`auto:best` takes the highest; among equals the dearest")
    tokens_per_second: int | None = Field(None, ge=1, description="of one answer; classes may prefer speed")
    gpus: int | None = Field(
        None, ge=0, description="GPUs that one worker's engine holds; 1 when unset, none behind the openai engine"
    )
    gpu_hour: Dollars | None = Field(
        None, description="dollars that each costs an hour; MILLRACE_GPU_HOUR_DOLLARS when unset"
    )
    on_disconnect: OnDisconnect | None = Field(None, description="when its last caller hangs up; else the settings say")
    synthetic: SyntheticTiming = SyntheticTiming()


class ModelClass(_Strict):
    """Models that may stand in for each other: a rule names the class, and the request decides."""

    models: list[str] = Field(min_length=1)
    prefer: Literal["cost", "speed"] = "cost"


class Rule(_Strict):
    """Sends a request to a model when it is within every bound; the first rule that fits wins."""

    name: str = Field(min_length=1, max_length=64)
    model: str | None = Field(None, description="a model, or a class of them")
    split: dict[str, Annotated[int, Field(ge=1)]] | None = Field(
        None, description="instead of a model: several, each with its share of the requests"
    )
    max_complexity: float = Field(1.0, ge=0, le=1)
    spend_target: float | None = Field(
        None, gt=0, lt=1, description="of always-best: `route apply` sets max_complexity by recent traffic to meet it"
    )
    reference_nano: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda value: value is None,  # so that policies without it keep their router_version
        description="max_complexity is for a request that costs so many nano-dollars more beyond this rule; it grows "
        "with that cost. `route apply` sets it with a spend_target",
    )
    min_prompt_tokens: int | None = Field(None, ge=1)
    max_prompt_tokens: int | None = Field(None, ge=1)
    min_budget_used: float | None = Field(None, gt=0, le=1, description="only when this much of a budget is used up")
    tenants: list[str] | None = Field(None, min_length=1)
    features: list[str] | None = Field(None, min_length=1)
    users: list[str] | None = Field(None, min_length=1)
    cascade: Cascade | None = Field(None, description="when the chosen model's answer goes to another: docs/routing.md")
    shadow: Shadow | None = Field(None, description="another model that runs too, unseen and unbilled: docs/routing.md")


class Misplaced(ValueError):  # noqa: N818 - named for what it says
    """What is wrong between settings, and at which of them."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


class Catalogue(_Strict):
    version: str = Field(min_length=1, max_length=64, description="cited in the ledger within router_version")
    scorer: ScorerName = Field("learned", description="what `max_complexity` is compared with: docs/routing.md")
    sticky: bool = Field(False, description="keep a conversation on its model where its prefix cache makes that pay")
    models: dict[str, ModelSpec] = Field(min_length=1)
    classes: dict[str, ModelClass] = {}
    rules: list[Rule] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for wrong in self._wrong():
            raise wrong
        return self

    def knows(self, model: str) -> bool:
        """Whether a caller may ask for it."""
        return model in AUTOMATIC or model in self.models

    def targets(self, rule: Rule) -> list[str]:
        """The models among which a rule chooses."""
        if rule.split:
            return list(rule.split)
        assert rule.model is not None, "checked when the file was read"
        return self.classes[rule.model].models if rule.model in self.classes else [rule.model]

    def _wrong(self) -> Iterator[Misplaced]:
        for name in self.models:
            if name == AUTO or name.startswith(f"{AUTO}:"):
                yield Misplaced(f"a model can't be named {name!r}: the router answers to that", ("models", name))
        slugs = {re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in self.models}
        if len(slugs) != len(self.models):
            message = "two models' names differ only in punctuation: their topics would be the same"
            yield Misplaced(message, ("models",))
        for name, spec in self.models.items():
            yield from self._wrong_fallback(name, spec)
        for name, group in self.classes.items():
            yield from self._wrong_class(name, group)
        for number, rule in enumerate(self.rules):
            yield from self._wrong_rule(("rules", number), rule)
        names = [rule.name for rule in self.rules]
        for number, name in enumerate(names):
            if name in names[:number]:
                yield Misplaced(f"two rules are named {name!r}", ("rules", number, "name"))
        if sum(rule.spend_target is not None for rule in self.rules) > 1:
            yield Misplaced("one rule may have a spend_target, not several", ("rules",))

    def _wrong_fallback(self, name: str, spec: ModelSpec) -> Iterator[Misplaced]:
        place = ("models", name, "fallback")
        for number, model in enumerate(spec.fallback):
            if model not in self.models:
                yield Misplaced(_unknown(f"the fallback of {name!r}", model), place)
            if model == name:
                yield Misplaced(f"{name!r} can't be its own fallback", place)
            if model in spec.fallback[:number]:
                yield Misplaced(f"the fallback of {name!r} names {model!r} twice", place)

    def _wrong_class(self, name: str, group: ModelClass) -> Iterator[Misplaced]:
        if name in self.models:
            yield Misplaced(f"{name!r} is a model already: a class needs another name", ("classes", name))
        for model in group.models:
            if model not in self.models:
                yield Misplaced(_unknown(f"class {name!r}", model), ("classes", name, "models"))

    def _wrong_rule(self, place: Place, rule: Rule) -> Iterator[Misplaced]:
        if (rule.model is None) == (rule.split is None) or rule.split == {}:
            yield Misplaced(f"rule {rule.name!r} needs either a model (or class), or a split", place)
        for model in rule.split or {}:
            if model not in self.models:
                yield Misplaced(_unknown(f"rule {rule.name!r}", model), (*place, "split", model))
        if rule.model is not None and rule.model not in self.models and rule.model not in self.classes:
            yield Misplaced(_unknown(f"rule {rule.name!r}", rule.model), (*place, "model"))
        if rule.spend_target is not None and rule.max_complexity == 1:
            message = f"rule {rule.name!r} has a spend_target: it needs a max_complexity too, until it is calibrated"
            yield Misplaced(message, (*place, "spend_target"))
        if rule.reference_nano is not None and rule.spend_target is None:
            yield Misplaced(f"rule {rule.name!r} has a reference_nano, but no spend_target", (*place, "reference_nano"))
        if rule.min_prompt_tokens and rule.max_prompt_tokens and rule.min_prompt_tokens > rule.max_prompt_tokens:
            yield Misplaced(f"no prompt can fit rule {rule.name!r}", (*place, "min_prompt_tokens"))
        if rule.cascade:
            yield from self._wrong_cascade((*place, "cascade"), rule, rule.cascade)
        if rule.shadow:
            yield from self._wrong_shadow((*place, "shadow"), rule, rule.shadow)

    def _wrong_cascade(self, place: Place, rule: Rule, cascade: Cascade) -> Iterator[Misplaced]:
        if cascade.model not in self.models:
            yield Misplaced(_unknown(f"the cascade of rule {rule.name!r}", cascade.model), (*place, "model"))
        if rule.model == cascade.model:
            yield Misplaced(f"the cascade of rule {rule.name!r} leads to the model that has answered", place)

    def _wrong_shadow(self, place: Place, rule: Rule, shadow: Shadow) -> Iterator[Misplaced]:
        if shadow.model not in self.models:
            yield Misplaced(_unknown(f"the shadow of rule {rule.name!r}", shadow.model), (*place, "model"))
        if rule.model == shadow.model:
            yield Misplaced(f"the shadow of rule {rule.name!r} is the model that answers", place)


def _unknown(who: str, model: str) -> str:
    return f"{who} names the model {model!r}, which is not under [models]"


def load_catalogue(path: Path | None = None) -> Catalogue:
    """The policy file, or the shipped one. Raises ConfigError naming what is wrong, and its line."""
    return load_toml(path, "routes.toml", Catalogue)


def load_toml(path: Path | None, shipped: str, model: type[M]) -> M:
    """Raises ConfigError when the file can't be read or doesn't fit."""
    try:
        text = path.read_text() if path else files("contracts").joinpath(shipped).read_text()
    except OSError as error:
        raise ConfigError(f"{path or shipped} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path or shipped} is not UTF-8.") from None
    return parse_toml(text, str(path or shipped), model)


def parse_toml(text: str, name: str, model: type[M]) -> M:
    """`name` is what the text is called when it doesn't fit. Raises ConfigError naming the first line that doesn't."""
    try:
        return model.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}.") from None
    except ValidationError as error:
        raise ConfigError(_explain(text, name, error.errors(include_url=False)[0])) from None


def _explain(text: str, name: str, error: Any) -> str:
    """The first thing that is wrong, with its line."""
    cause = error.get("ctx", {}).get("error")
    place: Place = cause.place if isinstance(cause, Misplaced) else error["loc"]
    line = line_of(text, place)
    where = f"{name}, line {line}" if line else name
    if isinstance(cause, Misplaced):
        return f"{where}: {cause}."
    setting = ".".join(str(part) for part in place)
    return f"{where}: {setting}: {error['msg']}." if setting else f"{where}: {error['msg']}."
