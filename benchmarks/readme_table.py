"""The README's table of levels, from `basic-run evaluate` and `basic-run profile`.

basic-run profile --json > docs/results/profile.json
python benchmarks/readme_table.py docs/results/kodak.json docs/results/profile.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

#: Which of the eight points of each curve are shown.
POINTS = (1, 3, 5)


@click.command()
@click.argument("evaluation", type=click.Path(exists=True, path_type=Path))
@click.argument("profile", type=click.Path(exists=True, path_type=Path))
def main(evaluation: Path, profile: Path) -> None:
    """Print a Markdown table."""
    results: dict[str, Any] = json.loads(evaluation.read_text())
    medians = {
        (f"level {row['level']}", row["direction"]): row["p50"]
        for row in json.loads(profile.read_text())["timings"]
        if row["part"] == "total"
    }
    deltas = {(d["anchor"], d["codec"]): d["percent"] for d in results["bd_rates"] if d["metric"] == "psnr"}
    anchors = [name for name in ("JPEG", "WebP", "AVIF") if any(anchor == name for anchor, _ in deltas)]
    print(f"| | kMAC/pixel enc / dec | ms enc / dec | bpp: PSNR | BD-rate against {', '.join(anchors)} |")
    print("|---|---|---|---|---|")
    for curve in results["curves"]:
        name = curve["name"]
        cost = " / ".join(f"{value / 1000:.1f}" for value in results["macs_per_pixel"].get(name, ()))
        times = " / ".join(
            f"{medians[name, way]:.0f}" for way in ("encode", "decode") if (name, way) in medians
        )
        pairs = list(zip(curve["bpp"], curve["psnr"], strict=True))
        points = ", ".join(f"{bpp:.2f}: {psnr:.1f}" for bpp, psnr in (pairs[i] for i in POINTS))
        rates = ", ".join("–" if anchor == name else f"{deltas[anchor, name]:+.0f} %" for anchor in anchors)
        print(f"| {name} | {cost} | {times} | {points} | {rates} |")


if __name__ == "__main__":
    main()
