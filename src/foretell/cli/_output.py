"""Data on stdout: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from foretell.progress.ndjson import SCHEMA_VERSION, finite
from foretell.progress.plain import clean


def document(data: dict[str, Any], *, one_line: bool = False) -> None:
    """Print JSON with the version of its shape; numbers that are not finite are null."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **finite(data)}, indent=None if one_line else 2)
    click.echo(text)


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], *, left: Sequence[str] = ()) -> None:
    """Print columns as wide as they must be.

    Args:
        titles: of the columns.
        rows: cells, as many as titles.
        left: titles of the columns of words; the others hold numbers and stand to the right.
    """
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    for line in (list(titles), *cells):
        padded = (
            cell.ljust(width) if title in left else cell.rjust(width)
            for cell, width, title in zip(line, widths, titles, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def fields(lines: Sequence[tuple[str, object]]) -> None:
    """Print labels and what belongs to them."""
    width = max((len(label) for label, _ in lines), default=0)
    for label, text in lines:
        first, *rest = str(text).splitlines() or [""]
        click.echo(f"{label:{width}}  {clean(first)}".rstrip())
        for line in rest:
            click.echo(f"{'':{width}}  {clean(line)}".rstrip())


def talk(text: str) -> None:
    """Say something on stderr."""
    click.echo(text, err=True)
