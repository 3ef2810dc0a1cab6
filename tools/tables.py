"""Tables: printed as Markdown, and kept as JSON together with what a reader needs to judge them."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PACKAGES = ("learn_diffusion", "torch", "diffusers", "denoising-diffusion-pytorch", "smalldiffusion", "azula")


@dataclass
class Table:
    """A title, the names of the columns, rows of numbers and words, and notes a reader needs."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def shown(value: Any) -> str:
    """A cell as it is printed: three or four digits of a number, words as they are."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(table: Table) -> str:
    """The table as Markdown, its columns aligned."""
    cells = [[str(name) for name in table.columns], *([shown(value) for value in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in cells]  # fmt: skip
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(
        [f"**{table.title}**", "", *lines, *([""] if table.notes else []), *(f"- {n}" for n in table.notes)]
    )


def versions() -> dict[str, str]:
    """Of Python and of what is compared; a peer that is not there is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The processor or GPU in words, and the threads in use."""
    from learn_diffusion import devices

    return devices.hardware(devices.resolve_device())


def write(path: Path, command: str, tables: Sequence[Table], seconds: float) -> None:
    """Keep the tables, with hardware, versions, command, date and seconds, as JSON. The folder is made."""
    whole = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": machine(),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "tables": [asdict(table) for table in tables],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def kept(path: Path, i: int, columns: Sequence[str] = ()) -> str:
    """A table that write() kept, as Markdown, with the machine, date and command under it; some columns, or all.

    Raises IndexError for a table, ValueError for a column that is not there.
    """
    whole = json.loads(path.read_text(encoding="utf-8"))
    table = Table(**whole["tables"][i])
    places = [table.columns.index(name) for name in columns or table.columns]
    table.columns, *table.rows = ([row[k] for k in places] for row in (table.columns, *table.rows))
    table.notes = [*table.notes, f"{whole['hardware']}, {whole['date'][:10]}: `{whole['command']}`"]
    return markdown(table)
