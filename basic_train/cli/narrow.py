"""`basic-train narrow`: a level of a supernet as a net of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from basic_runtime.cli.progress import progress_bar
from basic_runtime.files import check_target, make_folder
from basic_train.cli.setup import extra_packages, field_values

#: Held-out photos by which residual blocks are chosen, and the side of their crops.
PHOTOS, CROP = 16, 256

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("checkpoint", type=_PATH)
@click.option("--level", required=True, type=click.IntRange(0), help="Level of the checkpoint's table.")
@click.option(
    "-o", "--output", required=True, type=_PATH, help="Checkpoint of one width, for basic-train run --start-from."
)
@click.option(
    "--model",
    metavar="FIELD=VALUE",
    multiple=True,
    callback=field_values,
    help="A smaller shape: fewer channels or residual blocks, as field of ModelConfig = TOML value.",
)
@click.option(
    "--data", type=_PATH, help="Folder of photos, by those held out from training of which blocks are chosen."
)
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def narrow(
    checkpoint: Path,
    level: int,
    output: Path,
    model: dict[str, Any] | None,
    data: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a level of CHECKPOINT a net of its own, which can go on training and be smaller.

    \b
    basic-train narrow lite.safetensors --level 0 --data photos -o level0.safetensors --model eighth_blocks=4
    basic-train run --start-from level0.safetensors --freeze gains,z_prior --data photos -o runs/level0
    basic-export my-model --level 0=runs/level0 -o my-model-2 --name my-model-2 --data photos

    Of channels the first stay, of residual blocks those that are missed most. Gains and the prior of z must stay as
    they are, as all levels of a bundle share them.
    """
    make_folder(output.parent)
    check_target(output, overwrite)
    with extra_packages("making a net of a level"):
        from basic_train import checkpoint as checkpoints
        from basic_train.data import held_out_crops
        from basic_train.devices import tune_allocator
        from basic_train.model.cost import Costs
        from basic_train.narrow import level_widths, takes_blocks_away
        from basic_train.narrow import narrow as narrow_net

        tune_allocator()
        net, history = checkpoints.load(checkpoint)
        changes = model or {}
        judged = data is not None and takes_blocks_away(net.config, changes)
        crops = [held_out_crops(data, CROP, PHOTOS, "add larger ones")] if judged else []
        try:
            widths = level_widths(net.config, level)
            with progress_bar() as show:
                small = narrow_net(net, widths, changes, crops, show)
        except ValueError as error:
            raise checkpoints.CheckpointError(f"{checkpoint}: {error}") from error
        recipe = {"narrowed": checkpoint.name, "level": level, **changes}
        made = {"recipe": recipe, "step": 0, "patches": 0, "minutes": 0.0, "previous": history}
        checkpoints.save(output, small.state_dict(), small.config, made)
        before, after = Costs.of(net).total(widths), Costs.of(small).total(small.full)
    if as_json:
        costs = {"macs_per_pixel": after, "macs_per_pixel_in_supernet": before}
        click.echo(json.dumps({"level": level, **costs, "config": small.config.to_json()}, indent=1))
        return
    click.echo(f"{output}: {after / 1000:.2f} kMAC per pixel, as level {level} of the supernet {before / 1000:.2f}")
