"""Prompts are counted by the requested model's own tokenizer, where the routes file names one."""

import asyncio
import sys
from pathlib import Path

import orjson
import pytest
from tokenizers import Tokenizer, models

from contracts.bodies import describe
from contracts.catalogue import load_catalogue
from contracts.errors import ConfigError
from contracts.settings import Settings
from contracts.tokenizer import Tokenizers, load_tokenizers
from ingress.service import run as run_ingress
from streams.service import run as run_streams
from tests.support.tokenizers import LINES, write_tokenizer

ROUTES = """
version = "t"
[models.counted]
tokenizer = "tokenizer.json"
[models.estimated]
[[rules]]
name = "all"
model = "counted"
"""
FRAME, ANSWER = 4, 5  # of a chat's template: each message, and what comes before the answer
TEXT = "hello there, quick brown fox, what is billed today? " * 3


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    path = tmp_path / "routes.toml"
    path.write_text(ROUTES)
    return path


@pytest.fixture
def library(routes: Path) -> Tokenizer:
    return write_tokenizer(routes.with_name("tokenizer.json"))


@pytest.fixture
def tokenizers(library: Tokenizer, routes: Path) -> Tokenizers:
    return load_tokenizers(load_catalogue(routes), routes)


def counted(tokenizers: Tokenizers, model: str = "counted", **fields: object) -> int | None:
    return describe(orjson.dumps({"model": model, **fields}), tokenizers=tokenizers).digest.prompt_count


def said(*contents: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content} for content in contents]


def test_a_prompts_count_is_the_librarys(library: Tokenizer, tokenizers: Tokenizers) -> None:
    assert counted(tokenizers, prompt=TEXT) == len(library.encode(TEXT)) < len(TEXT) // 2


def test_a_chats_count_is_of_all_its_text_and_its_frame(library: Tokenizer, tokenizers: Tokenizers) -> None:
    parts = [{"type": "text", "text": "how are "}, {"type": "text", "text": "you?"}]
    text = len(library.encode(f"{TEXT}\nhow are you?"))
    assert counted(tokenizers, messages=said(TEXT, parts)) == text + 2 * FRAME + ANSWER


def test_a_file_that_cuts_and_pads_counts_whole_prompts(routes: Path, library: Tokenizer) -> None:
    whole = len(library.encode(TEXT))
    library.enable_truncation(5)
    library.enable_padding(length=500)
    library.save(str(routes.with_name("tokenizer.json")))
    assert counted(load_tokenizers(load_catalogue(routes), routes), prompt=TEXT) == whole


def test_a_long_prompt_is_counted_by_samples(library: Tokenizer, tokenizers: Tokenizers) -> None:
    text = "\n".join([*LINES * 100, *["0x1f, 27"] * 4000])
    real = len(library.encode(text))
    assert counted(tokenizers, prompt=text) == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "estimated", "messages": said(TEXT)},
        {"model": "auto", "messages": said(TEXT)},
        {"messages": said(TEXT), "tools": [{"type": "function"}]},
        {"messages": said([{"type": "text", "text": TEXT}, {"type": "image_url", "image_url": {"url": "x"}}])},
        {"messages": [*said(TEXT), {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
    ],
)
def test_what_cant_be_counted_is_estimated_as_ever(tokenizers: Tokenizers, fields: dict[str, object]) -> None:
    body = orjson.dumps({"model": "counted"} | fields)
    assert describe(body, tokenizers=tokenizers).digest == describe(body).digest
    assert "prompt-count" not in dict(describe(body).digest.to_headers())


@pytest.mark.parametrize("service", [run_ingress, run_streams])
async def test_a_service_doesnt_start_without_the_file(routes: Path, service: object) -> None:
    settings = Settings(routes_file=routes)
    with pytest.raises(ConfigError, match=r"The tokenizer .*tokenizer\.json, named in routes\.toml, can't be read: No"):
        await service(settings, stop=asyncio.Event())  # type: ignore[operator]


def test_without_the_package_it_says_what_to_do(
    routes: Path, library: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"pip install 'millrace\[tokenizers\]'"):
        load_tokenizers(load_catalogue(routes), routes)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{}", "doesn't work"),
        (b"\xff", "not UTF-8"),
        (Tokenizer(models.WordLevel({"what": 0}, unk_token="<unk>")).to_str().encode(), r"\[UNK\]"),  # none of its own
    ],
)
def test_a_file_that_doesnt_work_is_refused_at_start(routes: Path, content: bytes, why: str) -> None:
    routes.with_name("tokenizer.json").write_bytes(content)
    with pytest.raises(ConfigError, match=why):
        load_tokenizers(load_catalogue(routes), routes)
