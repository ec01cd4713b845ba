"""What it costs that one model holds all qualities: the same model trained on for one quality alone, beside all.

    python benchmarks/one_quality.py CHECKPOINT PHOTOS [--quality 0 --quality 0.33 --quality 1] [--steps 300]

All runs start from the checkpoint and make as many steps of the same crops. Measured on held-out crops at that quality,
at full and least width: bpp + lambda 255^2 MSE. A difference is given as a share of the bits: to first order, that is
the rate which one quality alone would save at equal distortion. It is a lower bound: a longer run saves more.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from basic_train.checkpoint import read_header
from basic_train.losses import RateDistortion, balance
from basic_train.model.supernet import Supernet
from basic_train.objective import OBJECTIVES, RandomWidths
from basic_train.recipe import Recipe
from basic_train.train import VALIDATION_QUALITIES, Trainer


def objective_for(value: float) -> type[RandomWidths]:
    """The usual objective, at one quality."""

    class OneQuality(RandomWidths):
        def forward(
            self, net: Supernet, x: Tensor, quality: Tensor, rng: np.random.Generator, progress: float
        ) -> RateDistortion:
            return super().forward(net, x, torch.full_like(quality, value), rng, progress)

    return OneQuality


def trained(checkpoint: Path, photos: Path, recipe: Recipe, folder: Path) -> dict[tuple[int, float], dict[str, float]]:
    """What is measured at the end of a run, by width and quality; loss: bpp + lambda 255^2 MSE."""
    trainer = Trainer(recipe, folder, photos, lambda line: None, checkpoint)
    trainer.run()
    config = trainer.config
    rows = {}
    for row in trainer.validate():
        weight = balance(config.lambda_of(torch.tensor(row["quality"])))
        rows[int(row["width"]), row["quality"]] = row | {"loss": row["loss"] / float(weight)}
    return rows


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@click.argument("photos", type=click.Path(path_type=Path, exists=True))
@click.option("--quality", "qualities", multiple=True, type=click.Choice([str(q) for q in VALIDATION_QUALITIES]))
@click.option("--steps", default=300, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--muon-rate", default=0.002, show_default=True)
@click.option("--learning-rate", default=0.0003, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    checkpoint: Path,
    photos: Path,
    qualities: tuple[str, ...],
    steps: int,
    batch: int,
    muon_rate: float,
    learning_rate: float,
    as_json: bool,
) -> None:
    """Train one model for all qualities and one for each alone, and compare."""
    settings = Recipe(
        preset=read_header(checkpoint)[0].preset,
        steps=steps,
        batch=batch,
        muon_rate=muon_rate,
        learning_rate=learning_rate,
        uniform_share=0.6,
        warmup_steps=20,
        save_minutes=1e6,
    )
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        together = trained(checkpoint, photos, settings, Path(folder) / "all")
        for value in [float(q) for q in qualities] or list(VALIDATION_QUALITIES):
            OBJECTIVES["one-quality"] = objective_for(value)
            recipe = Recipe(**{**vars(settings), "objective": "one-quality"})
            alone = trained(checkpoint, photos, recipe, Path(folder) / str(value))
            for width, quality in together:
                if quality == value:
                    ours, theirs = together[width, quality], alone[width, quality]
                    cost = (ours["loss"] - theirs["loss"]) / ours["bpp"]
                    lines.append({"quality": value, "width": width, "all": ours, "alone": theirs, "cost": cost})
                    click.echo(f"quality {value}, width {width}: {100 * cost:+.2f} %", err=True)
    if as_json:
        click.echo(json.dumps(lines, indent=1))
        return
    table = Table("quality", "width", "all: bpp / dB", "alone: bpp / dB", "cost of all, % of the bits")
    for line in lines:
        points = [f"{row['bpp']:.4f} / {row['psnr']:.3f}" for row in (line["all"], line["alone"])]
        table.add_row(str(line["quality"]), str(line["width"]), *points, f"{100 * line['cost']:+.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
