"""`millrace export`: the ledger for other tools."""

# ruff: noqa: PLC0415 - keeps --help fast

from pathlib import Path
from typing import Annotated

import typer

from millrace.commands.options import DataDir

app = typer.Typer(help="Write the ledger for other tools.", no_args_is_help=True)


@app.callback()
def export() -> None:
    """Write the ledger for other tools."""


@app.command()
def focus(
    month: Annotated[str, typer.Option(help="2026-11; UTC.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="CSV, or Parquet when it ends in .parquet.", show_default="CSV to standard output"
        ),
    ] = None,
    issuer: Annotated[str, typer.Option(help="Who provides, publishes and invoices it.")] = "Millrace",
    data_dir: DataDir = None,
) -> None:
    """Write a month as FOCUS 1.2 (FinOps Open Cost and Usage Specification)."""
    from analytics.focus import FocusExport
    from millrace.focus_file import write_focus
    from millrace.ledger_client import ledger

    wanted = FocusExport.of(month, issuer)
    with ledger(data_dir) as client:
        count = write_focus(wanted.rows(client), output)
    if output:
        typer.echo(f"{count:,} charges of {month} are in {output}.")
