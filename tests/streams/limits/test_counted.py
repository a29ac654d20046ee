"""A prompt that its model's own tokenizer has counted is reserved as counted; what is learned is for estimates."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from contracts.bodies import describe
from contracts.catalogue import Catalogue, ModelSpec, Rule
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.tokenizer import load_tokenizers
from tests.streams.actors import ask, body, finish, frames, text, work_records
from tests.streams.world import START, Produced, World
from tests.support.tokenizers import write_tokenizer

TEXT = "hello there, quick brown fox, what is billed today? " * 3
AROUND = 4 + 5  # one message's frame in a chat's template, and what comes before the answer
ANSWER = 10


@pytest.fixture
def library(tmp_path: Path) -> Tokenizer:
    return write_tokenizer(tmp_path / "tokenizer.json")


@pytest.fixture
def world(tmp_path: Path, library: Tokenizer) -> World:
    models = {
        "small": ModelSpec(version="2.5", tokenizer=Path("tokenizer.json"), fallback=("large",)),
        "large": ModelSpec(version="2.5"),
    }
    catalogue = Catalogue(version="t", models=models, rules=[Rule(name="all", model="small")])
    settings = Settings(request_partitions=1, tenant_partitions=1)
    return World(settings, catalogue=catalogue, tokenizers=load_tokenizers(catalogue, tmp_path / "routes.toml"))


def sent(world: World, key: str, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> Produced:
    """The work that became of it."""
    ask(world, f"acme:{key}", value, headers=headers)
    world.settle_down()
    return work_records(world)[-1]


def reserved(work: Produced) -> int:
    return int(text(work, "reserved-tokens"))


def asked(**fields: object) -> bytes:
    return body(TEXT, max_tokens=ANSWER, **fields)  # type: ignore[arg-type]


def finish_many(world: World, value: bytes, times: float) -> None:
    """Prompts that really have so many times the estimated tokens."""
    for number in range(20):
        work = sent(world, f"k{number}", value)
        finish(world, work, prompt_tokens=int(int(text(work, "prompt-estimate")) * times), completion_tokens=ANSWER)
        world.settle_down()


def test_a_counted_prompt_is_reserved_as_counted_whatever_was_learned(world: World, library: Tokenizer) -> None:
    need = len(library.encode(TEXT)) + AROUND + ANSWER
    assert reserved(sent(world, "first", asked())) == need
    finish_many(world, asked(), times=3)
    assert reserved(sent(world, "last", asked())) == need


def test_estimates_for_the_same_model_go_on_being_corrected(world: World) -> None:
    finish_many(world, asked(), times=3)
    estimate = describe(asked()).digest.prompt_estimate
    assert 3 * estimate <= reserved(sent(world, "auto", asked(model="auto"))) - ANSWER <= 4 * estimate
    assert 3 * estimate <= reserved(sent(world, "tools", asked(tools=[{"type": "function"}]))) - ANSWER <= 4 * estimate


def test_what_a_producer_wrote_before_there_were_counts_is_estimated(world: World) -> None:
    digest = describe(asked()).digest
    work = sent(world, "old", asked(), digest.to_headers())
    assert reserved(work) == digest.prompt_estimate + ANSWER
    assert text(work, "prompt-count") == ""


def test_another_model_that_stands_in_isnt_told_the_count(world: World) -> None:
    digest = describe(asked(), tokenizers=world.tokenizers).digest
    assert digest.prompt_count
    assert (digest.counted("small"), digest.counted("large")) == (digest.prompt_count, None)


def test_a_ceiling_on_cost_goes_by_the_count(world: World, library: Tokenizer) -> None:
    price = load_prices().find("small", "2.5", START)
    assert price is not None
    cost = price.cost(len(library.encode(TEXT)) + AROUND, 0, ANSWER)
    sent(world, "enough", asked(), [("max-cost", str(cost).encode())])
    ask(world, "acme:short", asked(), headers=[("max-cost", str(cost - 1).encode())])
    world.settle_down()
    assert len(work_records(world)) == 1
    assert b"max" in frames(world)[-1].value
