"""The generated documents are fresh and valid."""

import json
from pathlib import Path

import jsonschema

from millrace.docgen.__main__ import REFERENCE, documents, stale
from millrace.docgen.asyncapi import asyncapi_document
from millrace.docgen.schemas import schema_documents

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
