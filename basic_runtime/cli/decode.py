"""`basic-run decode`."""

from __future__ import annotations

from pathlib import Path

import click

from basic_runtime.cli.batch import Result, run_jobs, share_cores
from basic_runtime.cli.options import (
    AUTO,
    LevelChoice,
    budget_option,
    codec_options,
    limit_option,
    output_options,
)
from basic_runtime.cli.plan import Job, check_output, plan_jobs
from basic_runtime.definitions import EXTENSION


@click.command(short_help="Decompress .basic files.")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@output_options
@click.option(
    "--format",
    "kind",
    type=click.Choice(["png", "jpeg", "jpg", "webp", "tiff", "ppm"]),
    help="Format of outputs that are not named (default: png; -o goes by its extension).",
)
@click.option("--level", type=LevelChoice(), help="0 fast preview, 7 best, or auto (default: what the file suggests).")
@budget_option("level")
@limit_option
@codec_options
def decode(
    inputs: tuple[str, ...],
    output: str | None,
    out_dir: str | None,
    overwrite: bool,
    skip_existing: bool,
    as_json: bool,
    workers: int | None,
    kind: str | None,
    level: int | str | None,
    budget_ms: float | None,
    max_pixels: int | None,
    bundle: str | None,
    engine: str,
    precision: str | None,
    threads: int | None,
) -> None:
    """Decompress .basic files to PNG, JPEG, WebP, TIFF or PPM.

    IN may be - for standard input, or a folder, which stands for all .basic files in it and below, but for hidden
    ones. Any level decodes any file.
    """
    from basic_runtime.cli.make_codec import chooser, make_codec
    from basic_runtime.container import peek
    from basic_runtime.files import read_bytes
    from basic_runtime.imageio import EXTENSIONS, output_format, write_picture

    named = EXTENSIONS.get(Path(output or "").suffix.lower())
    if kind is not None and named not in (None, EXTENSIONS[f".{kind}"]):
        raise click.UsageError(f"--format {kind} and the extension of {output} contradict each other")
    plan = plan_jobs(inputs, output, out_dir, f".{kind or 'png'}", [EXTENSION], overwrite, skip_existing)
    timed = budget_ms is not None or level == AUTO
    workers, threads = share_cores(len(plan.jobs), workers, threads, timed=timed)
    codec = make_codec(bundle, engine, threads, level, max_pixels, precision)
    choice_for = chooser(codec, level, budget_ms, "decode")

    def work(job: Job) -> Result:
        output_format(job.target, kind)
        data = read_bytes(job.source, codec.limits)
        header = peek(data)  # first: the output for an input that is a picture already would be that input
        check_output(job, overwrite)
        asked = choice_for(header.width, header.height).level
        picture = codec.decode_picture(data, level=asked)
        notices = write_picture(job.target, picture, kind, overwrite=overwrite, threads=threads)
        return {
            "width": picture.width,
            "height": picture.height,
            "level": header.decode_level if asked is None else asked,
            "notices": notices,
        }

    def describe(result: Result) -> str:
        return _describe(result) + (f"  level {result['level']}" if timed else "")

    run_jobs(
        plan,
        work,
        describe=describe,
        summarise=_summarise,
        as_json=as_json,
        workers=workers,
        skip_existing=skip_existing,
    )


def _describe(result: Result) -> str:
    return (
        f"{result['input']} -> {result['output']}  {result['width']}x{result['height']}  "
        f"{result['seconds'] * 1000:.0f} ms"
    )


def _summarise(results: list[Result], seconds: float) -> str:
    return f"{len(results)} decoded, {seconds:.1f} s"
