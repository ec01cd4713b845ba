"""Training speed: patches per second of whole steps, with and without bf16, channels_last and the allocator settings.

    python benchmarks/training_speed.py [--recipe lite] [--batch 8] [--crop 256] [--steps 20] [--threads N]

Every setting runs in a process of its own, as the allocator's cannot be taken back, and makes the same steps: random
widths, forward, backward, clipping, optimisers, average. On a GPU there is no allocator setting to compare.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from basic_train import recipes

SWITCHES = ("bf16", "channels_last", "allocator")
WARM_UP = 3


def patches_per_second(settings: dict[str, Any]) -> float:
    """Speed of one setting in this process."""
    import numpy as np
    import torch

    from basic_train.devices import tune_allocator
    from basic_train.model.presets import PRESETS
    from basic_train.model.supernet import Supernet
    from basic_train.objective import OBJECTIVES, TrainingStep
    from basic_train.optimise import Averager, optimizers

    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    if settings["allocator"]:
        tune_allocator()
    recipe = replace(recipes.load(settings["recipe"]).recipe, batch=settings["batch"], crop=settings["crop"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format
    torch.manual_seed(0)
    config = PRESETS[recipe.preset].changed(recipe.model)
    objective = OBJECTIVES[recipe.objective](config, recipe)
    module = TrainingStep(Supernet(config), objective).to(device, memory_format=layout)
    movers, average = optimizers(module, recipe), Averager(module, recipe.ema)
    x = torch.rand(recipe.batch, 3, recipe.crop, recipe.crop, device=device).contiguous(memory_format=layout)
    seconds = []
    for step in range(WARM_UP + settings["steps"]):
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=settings["bf16"]):
            quality = torch.rand(recipe.batch, device=device)
            loss, _, _ = module(x, quality, np.random.default_rng(step))
        module.zero_grad(set_to_none=True)
        loss.backward()
        float(torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.clip))
        for optimizer in movers:
            optimizer.step()
        average.update(module, step)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    # Steps differ by their widths, which are the same in every setting: compare the sum of them.
    return recipe.batch * settings["steps"] / sum(seconds[WARM_UP:])


def measured(settings: dict[str, Any]) -> float:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps(settings)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


@click.command()
@click.option("--recipe", default="lite", show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--crop", default=256, show_default=True)
@click.option("--steps", default=20, show_default=True, help="Measured, after 3 that are not.")
@click.option("--threads", type=int, help="Of torch [default: its own choice].")
@click.option("--one", hidden=True, help="Settings as JSON: print the speed of this one.")
def main(recipe: str, batch: int, crop: int, steps: int, threads: int | None, one: str | None) -> None:
    """Print patches per second of all combinations of the settings."""
    if one:
        click.echo(patches_per_second(json.loads(one)))
        return
    size = {"recipe": recipe, "batch": batch, "crop": crop, "steps": steps, "threads": threads}
    table = Table(title=f"{recipe}, batch {batch}, crops of {crop}, {steps} steps")
    for heading in (*SWITCHES, "patches/s", "times the first"):
        table.add_column(heading, justify="right")
    first = None
    for switches in itertools.product((False, True), repeat=len(SWITCHES)):
        speed = measured(size | dict(zip(SWITCHES, switches, strict=True)))
        first = first or speed
        table.add_row(*("yes" if on else "no" for on in switches), f"{speed:.2f}", f"{speed / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
