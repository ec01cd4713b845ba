"""`basic-train prepare`: make a training set from a folder of photos."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from basic_runtime.cli.options import FiniteRange
from basic_runtime.cli.progress import progress_bar
from basic_runtime.threads import available_cores
from basic_train.prepare.procedure import PROCEDURES, Procedure

DEFAULT = Procedure()
MAX_SHOWN = 20


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--like",
    type=click.Choice(list(PROCEDURES)),
    help="The rules of a published set; options change single ones.",
)
@click.option(
    "--min-side", type=click.IntRange(min=1), help=f"Shortest side of a result [default: {DEFAULT.min_side}]."
)
@click.option(
    "--max-side",
    type=click.IntRange(min=1),
    help=f"Longest side of a result; more is downsampled [default: {DEFAULT.max_side}].",
)
@click.option(
    "--factor",
    type=FiniteRange(min=1),
    help=f"Sides of JPEG and lossy WebP sources are divided by this [default: {DEFAULT.factor}].",
)
@click.option(
    "--near",
    type=click.IntRange(0, 15),
    help=f"Bits of 256 in which the hashes of duplicates may differ [default: {DEFAULT.near}].",
)
@click.option("--keep-duplicates", is_flag=True, help="Look for no duplicates.")
@click.option("--count", type=click.IntRange(min=1), help="Choose so many photos [default: all].")
@click.option("--choose", type=click.Choice(["largest", "random"]), help=f"By what [default: {DEFAULT.choose}].")
@click.option("--seed", type=click.IntRange(min=0), help="Of the random choice.")
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes [default: one per core].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prepare(
    source: Path,
    out: Path,
    like: str | None,
    keep_duplicates: bool,
    jobs: int | None,
    as_json: bool,
    **rules: Any,
) -> None:
    """Make a training set in OUT from the photos below SOURCE.

    \b
    basic-train prepare Pictures photos
    basic-train prepare ILSVRC2012/train photos --like imagenet-subset

    Writes PNGs and index.csv. JPEG artefacts are stripped by downsampling; small pictures, duplicates and damaged
    files are left out. A run that was stopped goes on with the same command.
    """
    from basic_train.prepare.run import Preparation

    procedure = _procedure(like, keep_duplicates, rules)
    with progress_bar() as progress:
        jobs = jobs or available_cores()
        outcome = Preparation(source, out, procedure, jobs, progress).run()
    if as_json:
        click.echo(json.dumps(asdict(outcome) | {"pictures": outcome.pictures}, indent=1))
        return
    for title, lines in (("left out", outcome.unusable), ("no longer part of the set", outcome.stale)):
        for line in lines[:MAX_SHOWN]:
            click.echo(f"{title}: {line}", err=True)
        if len(lines) > MAX_SHOWN:
            click.echo(f"{title}: {len(lines) - MAX_SHOWN} more (--json lists all)", err=True)
    click.echo(f"{out}: {outcome.pictures} pictures, {outcome.written} of them new; left out: {outcome.left_out()}")


def _procedure(like: str | None, keep_duplicates: bool, rules: dict[str, Any]) -> Procedure:
    given = {name: value for name, value in rules.items() if value is not None}
    if keep_duplicates:
        if "near" in given:
            raise click.UsageError("give --near or --keep-duplicates, not both")
        given["near"] = None
    base = PROCEDURES[like] if like else DEFAULT
    if base.halve_above is not None and (clash := sorted({"factor", "max_side"} & given.keys())):
        raise click.UsageError(f"--{clash[0].replace('_', '-')}: --like {like} has a rule of its own for sizes")
    try:
        procedure = replace(base, **given)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if "choose" in given and procedure.count is None:
        raise click.UsageError("--choose: goes with --count, as without it all photos are taken")
    if "seed" in given and (procedure.count is None or procedure.choose != "random"):
        raise click.UsageError("--seed: goes with --count and --choose random")
    return procedure
