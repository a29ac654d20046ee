"""Rows that are shown as they are: a table for people, one JSON array for programs."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from millrace.grid import Column, Grid, write_json


def print_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[str], format_: str) -> None:
    """`format_` is `table` or `json`. A column of integers stands to the right."""
    if format_ == "json":
        write_json(rows)
        return
    shapes = [Column(name, numeric=all(isinstance(row[name], int) for row in rows)) for name in columns]
    cells = [[str(row[name]) for name in columns] for row in rows]
    Console().print(Grid(shapes, cells).table())
