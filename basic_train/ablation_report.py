"""Results of the grouping ablation as table, CSV, JSON and plot."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from basic_runtime.errors import FileError
from basic_runtime.files import write_bytes, write_file
from basic_train.ablation import Outcome

RESULTS = "groupings.json"

#: Fewer stages than these are drawn to scale, more at the right edge.
MOST_STAGES = 16


def load(folder: Path, settings: dict[str, Any]) -> list[Outcome]:
    """Rows of an earlier run with the same settings; none if there was none. Raises FileError for others."""
    path = folder / RESULTS
    if not path.exists():
        return []
    try:
        stored = json.loads(path.read_text())
        rows = [Outcome(**row) for row in stored["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path}: not readable ({error}); choose another -o") from error
    if stored["settings"] != settings:
        raise FileError(f"{path}: was measured with other settings; choose another -o")
    return rows


def write(folder: Path, settings: dict[str, Any], rows: list[Outcome]) -> str:
    """JSON, CSV and plot; returns the JSON."""
    text = json.dumps({"settings": settings, "rows": [asdict(row) for row in rows]}, indent=1)
    write_bytes(folder / RESULTS, text.encode() + b"\n", overwrite=True)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["grouping", "channel groups", "stages", "bpp", "percent of no context"])
    writer.writerows([row.name, row.groups, row.stages, f"{row.bpp:.5f}", f"{saving(rows, row):.3f}"] for row in rows)
    write_bytes(folder / "groupings.csv", out.getvalue().encode(), overwrite=True)
    plot(folder / "groupings.png", rows)
    return text


def saving(rows: list[Outcome], row: Outcome) -> float:
    """Percent of rate against the first row, which has no context; less is better."""
    return 100 * (row.bpp / rows[0].bpp - 1)


def table(rows: list[Outcome]) -> Table:
    """A line for each grouping, in the order they were measured."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    result.add_column("grouping")
    for heading in ("channel groups", "stages", "bpp", "rate"):
        result.add_column(heading, justify="right")
    for row in rows:
        result.add_row(row.name, str(row.groups), str(row.stages), f"{row.bpp:.4f}", f"{saving(rows, row):+.2f} %")
    return result


def plot(path: Path, rows: list[Outcome]) -> None:
    """Rate against stages."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        learned = row.name.startswith("learned")
        x = min(row.stages, MOST_STAGES)
        axes.plot(x, saving(rows, row), "D" if learned else "o", color="C3" if learned else "C0")
        axes.annotate(row.name, (x, saving(rows, row)), xytext=(5, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel(f"stages ({MOST_STAGES}: that many or more)")
    axes.set_ylabel("rate against no context, %")
    axes.set_xlim(0, MOST_STAGES + 3)
    axes.grid(alpha=0.3)
    axes.set_title("What the order of decoding is worth, all else equal", fontsize=10)
    write_file(path, lambda file: figure.savefig(file, format="png", dpi=130), overwrite=True)
