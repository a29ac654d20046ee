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
ExportFormat = Annotated[
    Literal["table", "json", "csv", "parquet"],
    typer.Option("--format", help="How to print it; parquet needs --output."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="A file to write to.", show_default="standard output")
]
