"""`basic-run info`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from basic_runtime.cli.lines import printable, tell_error
from basic_runtime.cli.plan import plan_reading

if TYPE_CHECKING:
    from basic_runtime.info import FileInfo


@click.command(short_help="Tell what .basic files hold.")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(inputs: tuple[str, ...], as_json: bool) -> None:
    """Tell size, quality, model and chunks of .basic files; no model is needed.

    IN may be - for standard input, or a folder, which stands for all .basic files in it and below, but for hidden
    ones.
    """
    from basic_runtime.errors import BasicError
    from basic_runtime.files import display_name, read_bytes
    from basic_runtime.info import file_info

    results: list[dict[str, Any]] = []
    failed = False
    for job in plan_reading(inputs):
        name = display_name(job.source)
        try:
            if job.error is not None:
                raise job.error
            found = file_info(read_bytes(job.source))
        except BasicError as error:
            failed = True
            message = error.named_line(name)
            tell_error(message)
            results.append({"input": name, "error": message})
            continue
        extras = {"bpp": round(found.bpp, 5), "alpha": found.has_alpha, "metadata": found.metadata}
        results.append({"input": name} | asdict(found) | extras)
        if not as_json:
            click.echo(_describe(printable(name), found))
    if as_json:
        click.echo(json.dumps(results, indent=2))
    if failed:
        click.get_current_context().exit(1)


def _describe(name: str, found: FileInfo) -> str:
    chunks = ", ".join(f"{kind} {size:,}" for kind, size in found.chunks)
    extras = [*(["alpha"] if found.has_alpha else []), *found.metadata]
    return "\n".join(
        (
            name,
            f"  picture   {found.width}x{found.height} {'gray' if found.gray else 'RGB'}"
            + (f" with {', '.join(extras)}" if extras else ""),
            f"  size      {found.bytes:,} bytes, {found.bpp:.3f} bpp",
            f"  quality   {found.quality} (step {found.quality_step})",
            f"  level     {found.level}, decoded at {found.decode_level}",
            f"  model     {found.model_name} ({found.model_id}), entropy variant {found.entropy_variant}",
            f"  chunks    {chunks} bytes",
        )
    )
