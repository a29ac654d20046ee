"""`python -m millrace.docgen [--check]`: write docs/reference/, or say which of its files are stale and exit 1."""

import sys
from pathlib import Path

from millrace.docgen.asyncapi import asyncapi_document
from millrace.docgen.metrics_table import metrics_table
from millrace.docgen.openapi import openapi_document
from millrace.docgen.render import as_json
from millrace.docgen.schemas import schema_documents
from millrace.docgen.settings_table import settings_table

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def documents() -> dict[str, str]:
    """File name under docs/reference/ → its text."""
    return {
        "settings.md": settings_table(),
        "metrics.md": metrics_table(),
        "asyncapi.json": as_json(asyncapi_document()),
        "openapi.json": as_json(openapi_document()),
        **{f"schemas/{name}.json": as_json(schema) for name, schema in schema_documents().items()},
    }


def stale(wanted: dict[str, str], folder: Path) -> list[str]:
    """Names whose file is missing, differs, or shouldn't be there."""
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main() -> int:
    wanted = documents()
    names = stale(wanted, REFERENCE)
    if "--check" in sys.argv[1:]:
        for name in names:
            sys.stderr.write(f"docs/reference/{name} is stale: run `make docs`\n")
        return 1 if names else 0
    for name in names:
        path = REFERENCE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in wanted:
            path.write_text(wanted[name])
        else:
            path.unlink()
        sys.stdout.write(f"docs/reference/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
