"""The generated documents are fresh and valid."""

import json
from pathlib import Path
from typing import Any

import jsonschema

from contracts.frames import Frame, FrameKind
from millrace.docgen.__main__ import REFERENCE, documents, stale
from millrace.docgen.asyncapi import asyncapi_document
from millrace.docgen.schemas import schema_documents
from tests.support.frames import chat_chunk, chat_run, raw

DATA = Path(__file__).parents[1] / "data"


def test_the_reference_is_fresh() -> None:
    assert stale(documents(), REFERENCE) == []


def test_a_stale_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("old")
    (tmp_path / "gone.md").write_text("x")
    assert stale({"a.md": "new", "b.md": "y"}, tmp_path) == ["a.md", "b.md", "gone.md"]


def test_asyncapi_is_valid() -> None:
    schema = json.loads((DATA / "asyncapi-3.0.0.json").read_text())
    jsonschema.validate(asyncapi_document(), schema)


def test_every_schema_is_valid() -> None:
    for schema in schema_documents().values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_reader_in_the_docs_reads_right() -> None:
    """Frames twice, a worker that was lost, and its late frames."""
    page = (REFERENCE.parent / "kafka.md").read_text()
    [code] = [part.split("```")[0] for part in page.split("```python\n")[1:] if "class Reader" in part]
    names: dict[str, Any] = {}
    exec(code, names)
    first, second = chat_run("a", ["Good ", "morn", "ing"]), chat_run("b", ["ev", "ening"])
    takeover = raw(Frame(kind=FrameKind.DELTA, run="b"), chat_chunk({"content": ""}))
    places = zip(second[1:], (7, 12, 12), strict=True)
    moved = [frame._replace(headers=frame.headers | {"position": b"%d" % place}) for frame, place in places]
    reader = names["Reader"]()
    frames = [*first[:2], first[1], takeover, *first[2:], *moved]
    told = [reader.read({name: text.decode() for name, text in frame.headers.items()}, frame.value) for frame in frames]
    assert "".join(told) == reader.text == "Good evening"
