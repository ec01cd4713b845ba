"""`basic-train groupings`: learn groupings and compare them with fixed ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from basic_runtime.cli.progress import progress_bar
from basic_runtime.errors import BasicError
from basic_runtime.files import make_folder, write_bytes
from basic_train.cli.setup import extra_packages

if TYPE_CHECKING:
    from torch import Tensor

    from basic_train.ablation import Ablation, Method, Outcome
    from basic_train.model.supernet import Supernet
    from basic_train.progress import Progress

_PATH = click.Path(path_type=Path)

#: Side of the crops whose latents are kept.
CROP = 256

#: Photos are coded at qualities over the whole range; the held-out ones at these.
QUALITIES = (0.15, 0.5, 0.85)


@click.command()
@click.argument("checkpoint", type=_PATH)
@click.option("--data", required=True, type=_PATH, help="Folder of photos; every tenth is held out to measure.")
@click.option("-o", "--output", required=True, type=_PATH, help="Folder of results; an earlier run goes on.")
@click.option("--methods", "names", metavar="NAME,NAME,...", help="Only these rows, and `none` to compare with.")
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, help="Of each method.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Crops per step.")
@click.option("--crops", type=click.IntRange(8), default=512, show_default=True, help="Crops to train on.")
@click.option("--held-out", type=click.IntRange(1), default=24, show_default=True, help="Photos to measure.")
@click.option(
    "--context",
    type=click.IntRange(1),
    default=240,
    show_default=True,
    help="Channels of the context models.",
)
@click.option(
    "--learner",
    type=click.Choice(["search", "direct", "predictor"]),
    default="search",
    show_default=True,
    help="How groupings are learned: by search over partial orders, or by VIMCO on direct parameters or the "
    "original's predictor.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def groupings(
    checkpoint: Path,
    data: Path,
    output: Path,
    names: str | None,
    learner: str,
    as_json: bool,
    **sizes: int,
) -> None:
    """Compare orders of decoding on CHECKPOINT, and learn some: what each saves in rate, all else equal.

    \b
    basic-train groupings runs/lite/model.safetensors --data photos -o runs/groupings

    All transforms stay as they are. Each row's context model is fine-tuned from one base, which is trained on random
    groupings. Writes groupings.json, .csv and .png, and a checkpoint of full width for each row that can be exported.
    """
    with extra_packages("the comparison of groupings"):
        from basic_train import ablation_report
        from basic_train import checkpoint as checkpoints
        from basic_train.ablation import methods
        from basic_train.data import held_out_crops
        from basic_train.devices import tune_allocator

        tune_allocator()
        net, history = checkpoints.load(checkpoint)
        known = methods(net.config)
        if any(sizes["context"] % method.groups for method in known):
            groups = sorted({method.groups for method in known})
            raise click.UsageError(f"--context {sizes['context']}: must divide into {groups} channel groups")
        if sizes["batch"] > sizes["crops"]:
            raise click.UsageError(f"--batch {sizes['batch']}: is more than the {sizes['crops']} --crops to train on")
        chosen, most_groups = _chosen(known, names), max(method.groups for method in known)
        settings = {**_measured_on(checkpoints.file_of(checkpoint), data), "learner": learner, **sizes}
        photos = _training_photos(data), held_out_crops(data, CROP, sizes["held_out"], "add larger ones")
        make_folder(output)
        rows = ablation_report.load(output, settings)
        todo = [method for method in chosen if method.title not in {row.name for row in rows}]
        text = ablation_report.write(output, settings, rows)  # settings come before the base that is made with them
        for outcome in _outcomes(net, history, photos, output, todo, most_groups, learner, sizes):
            rows.append(outcome)
            text = ablation_report.write(output, settings, rows)
        if as_json:
            click.echo(text)
        else:
            from rich.console import Console

            Console().print(ablation_report.table(rows), highlight=False)


def _measured_on(checkpoint: Path, data: Path) -> dict[str, str]:
    """Rows of other weights or photos do not compare."""
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    return {"checkpoint": checkpoint.name, "sha256": digest, "photos": str(data.absolute())}


def _chosen(known: list[Method], names: str | None) -> list[Method]:
    """Rows by name, `none` first. Raises UsageError."""
    if names is None:
        return known
    wanted = {"none", *(name.strip() for name in names.split(","))}
    unknown = wanted - {method.title for method in known}
    if unknown:
        listed = ", ".join(method.title for method in known)
        raise click.UsageError(f"--methods: unknown {', '.join(sorted(unknown))}; known: {listed}")
    return [method for method in known if method.title in wanted]


def _outcomes(
    net: Supernet,
    history: dict[str, Any],
    photos: tuple[list[Path], Tensor],
    output: Path,
    todo: list[Method],
    most_groups: int,
    learner: str,
    sizes: dict[str, int],
) -> Iterator[Outcome]:
    """Run each method; yields its row when its checkpoint is written."""
    from basic_train import ablation
    from basic_train import checkpoint as checkpoints

    if not todo:
        return
    with progress_bar() as show:
        show("latents", 0, None)
        run = _ablation(net, *photos, learner, sizes, show)
        _base(run, output / "base.safetensors", most_groups)
        for method in todo:
            outcome, context = run.run(method)
            if outcome.tile is not None:
                fixed, weights = ablation.static(net, context, outcome.name)
                target = output / f"{outcome.name}.safetensors"
                checkpoints.save(target, weights, fixed.config, history | {"grouping": asdict(outcome)})
            yield outcome


def _base(run: Ablation, path: Path, groups: int) -> None:
    """The base, trained now or by an earlier run."""
    import safetensors.torch

    if path.exists():
        try:
            run.base.load_state_dict(safetensors.torch.load_file(path))
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:
            raise BasicError(f"{path}: not the base of this run; remove it") from error
        return
    run.train_base(groups)
    write_bytes(path, safetensors.torch.save(run.base.state_dict()), overwrite=True)


def _training_photos(data: Path) -> list[Path]:
    """Raises ImageError for a folder without."""
    from basic_runtime.errors import ImageError
    from basic_train.data import list_photos, split

    train, _ = split(list_photos(data))
    if not train:
        raise ImageError(f"{data}: its one photo is held out to measure, and none is left to train on; add photos")
    return train


def _ablation(
    net: Supernet, train: list[Path], measured: Tensor, learner: str, sizes: dict[str, int], show: Progress
) -> Ablation:
    """Frozen latents of random crops of training photos and of the crops to measure."""
    import torch

    from basic_train.ablation import Ablation, freeze
    from basic_train.data import CropStream, PhotoFiles, cache_budget
    from basic_train.model.context import ContextShape

    torch.manual_seed(0)
    photos = PhotoFiles(train, CROP, cache_budget(None), lambda line: click.echo(line, err=True))
    stream = CropStream(photos, CROP, 8, 0)
    crops = stream.first_crops(sizes["crops"])
    training = freeze(net, crops, torch.rand(len(crops)))
    quality = torch.tensor(QUALITIES).repeat(len(measured))
    held_out = freeze(net, measured.repeat_interleave(len(QUALITIES), 0), quality)
    size = sizes["context"]
    shape = ContextShape(size, size, size)
    return Ablation(net, training, held_out, shape, sizes["steps"], sizes["batch"], learner, show)
