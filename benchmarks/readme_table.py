"""The README's table of levels, from `basic-run evaluate` and `basic-run profile`.

basic-run profile --json > docs/results/profile.json
python benchmarks/readme_table.py docs/results/kodak.json docs/results/profile.json \\
    --effort 0 docs/results/kodak-effort0.json --effort 6 docs/results/kodak-effort6.json --only 0,7
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from basic_runtime.cli.options import LevelList

#: Which of the eight points of each curve are shown; of shorter ones those that there are.
POINTS = (1, 3, 5)


Report = dict[str, Any]
Times = dict[tuple[str, str], float]
"""Milliseconds of a curve, to "encode" and "decode"."""


@click.command()
@click.argument("evaluation", type=click.Path(exists=True, path_type=Path))
@click.argument("profile", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--effort", "efforts", type=(int, click.Path(exists=True, path_type=Path)), multiple=True, help="Also its levels."
)
@click.option("--only", type=LevelList(), help="Of other efforts, these levels alone.")
def main(evaluation: Path, profile: Path, efforts: tuple[tuple[int, Path], ...], only: tuple[int, ...] | None) -> None:
    """Print a Markdown table."""
    results: Report = json.loads(evaluation.read_text())
    medians: Times = {
        (f"level {row['level']}", row["direction"]): row["p50"]
        for row in json.loads(profile.read_text())["timings"]
        if row["part"] == "total"
    }
    anchors = [name for name in ("JPEG", "WebP", "AVIF") if name in {d["anchor"] for d in results["bd_rates"]}]
    print(f"| | kMAC/pixel enc / dec | ms enc (effort 0) / dec | bpp: PSNR | BD-rate against {', '.join(anchors)} |")
    print("|---|---|---|---|---|")
    ours, others = ([c for c in results["curves"] if c["name"].startswith("level") == own] for own in (True, False))
    for curve in ours:
        print_row(results, curve, anchors, medians)
    for effort, path in efforts:
        report: Report = json.loads(path.read_text())
        for curve in report["curves"]:
            if curve["name"] in {f"level {level}" for level in only or range(8)}:
                print_row(report, curve, anchors, {}, f", effort {effort}")
    for curve in others:
        print_row(results, curve, anchors, medians)


def print_row(results: Report, curve: Report, anchors: list[str], times: Times, suffix: str = "") -> None:
    """The row of a curve."""
    name = curve["name"]
    deltas = {(d["anchor"], d["codec"]): d["percent"] for d in results["bd_rates"] if d["metric"] == "psnr"}
    macs = () if suffix else results["macs_per_pixel"].get(name, ())
    cost = " / ".join(f"{value / 1000:.1f}" for value in macs)
    milliseconds = " / ".join(f"{times[name, way]:.0f}" for way in ("encode", "decode") if (name, way) in times)
    pairs = list(zip(curve["bpp"], curve["psnr"], strict=True))
    points = ", ".join(f"{bpp:.2f}: {psnr:.1f}" for bpp, psnr in (pairs[i] for i in POINTS if i < len(pairs)))
    rates = ", ".join("–" if anchor == name else f"{deltas[anchor, name]:+.0f} %" for anchor in anchors)
    print(f"| {name}{suffix} | {cost} | {milliseconds} | {points} | {rates} |")


if __name__ == "__main__":
    main()
