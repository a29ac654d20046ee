"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="The stack's data folder.  [default: $MILLRACE_DATA_DIR or .millrace]", show_default=False
    ),
]
Format = Annotated[Literal["table", "json"], typer.Option("--format", help="How to print it.")]
