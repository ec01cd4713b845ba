"""`basic-run verify`."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from basic_runtime.cli.batch import exit_after, failure_line, run_all, share_cores
from basic_runtime.cli.lines import printable, tell_error, tell_note
from basic_runtime.cli.options import (
    AUTO,
    bundle_option,
    jobs_option,
    limit_option,
    precision_option,
    threads_option,
)
from basic_runtime.cli.plan import Job, plan_reading

if TYPE_CHECKING:
    from basic_runtime.codec import Codec

Check = dict[str, Any]


@click.command(short_help="Check that this machine's engines decode bit by bit, or that files are intact.")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@bundle_option
@click.option(
    "--engine", "engines", multiple=True, metavar="NAME", help="May be repeated (default: all; of files, auto)."
)
@precision_option
@threads_option
@jobs_option
@limit_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(
    files: tuple[str, ...],
    bundle: str | None,
    engines: tuple[str, ...],
    precision: str | None,
    threads: int | None,
    workers: int | None,
    max_pixels: int | None,
    as_json: bool,
) -> None:
    """Run the bundle's golden vectors on engines of this machine.

    Exits with status 1 unless every engine reproduces every one of them. With FILEs, decode these instead and write
    nothing: each is intact if all its checksums and that of its decoded latents hold. A folder stands for all .basic
    files in it and below, but for hidden ones.
    """
    if not files:
        if any(option is not None for option in (precision, workers, max_pixels)):
            raise click.UsageError("--precision, --jobs and --max-pixels are for FILEs: name some")
        _verify_engines(bundle, engines, threads, as_json)
        return
    from basic_runtime.cli.make_codec import make_codec

    jobs = plan_reading(files)
    workers, threads = share_cores(len(jobs), workers, threads)
    codecs = {name: make_codec(bundle, name, threads, None, max_pixels, precision) for name in engines or (AUTO,)}
    _verify_files(jobs, codecs, workers, as_json)


def _verify_files(jobs: list[Job], codecs: dict[str, Codec], workers: int, as_json: bool) -> None:
    found, stopped = run_all(jobs, partial(_checks, codecs=codecs), partial(_report, quiet=as_json), workers)
    checks = [check for of_file in found for check in of_file]
    if as_json:
        click.echo(json.dumps(checks, indent=2))
    exit_after(len(jobs), len(found), stopped, any(check["error"] for check in checks))


def _checks(job: Job, codecs: dict[str, Codec]) -> list[Check]:
    """A check of a file by each codec: whether it is intact (None: could not be found out), and the error."""
    from basic_runtime.errors import BasicError
    from basic_runtime.files import display_name, read_bytes

    named = {"input": display_name(job.source)}
    try:
        if job.error is not None:
            raise job.error
        data = read_bytes(job.source, next(iter(codecs.values())).limits)
    except (BasicError, MemoryError) as error:
        return [named | {"engine": None, "intact": None, "error": failure_line(error, job)}]
    return [named | {"engine": name} | _check(job, data, codec) for name, codec in codecs.items()]


def _check(job: Job, data: bytes, codec: Codec) -> Check:
    from basic_runtime.errors import BasicError, DesyncError, FormatError

    try:
        codec.decode(data)
    except (BasicError, MemoryError) as error:
        damaged = isinstance(error, FormatError | DesyncError)
        return {"intact": False if damaged else None, "error": failure_line(error, job)}
    return {"intact": True, "error": None}


def _report(job: Job, checks: list[Check], *, quiet: bool) -> None:
    for check in checks:
        if check["error"]:
            tell_error(check["error"])
        elif not quiet:
            click.echo(f"{printable(check['input'])}: intact, decoded by {check['engine']}")


def _verify_engines(bundle: str | None, engines: tuple[str, ...], threads: int | None, as_json: bool) -> None:
    from basic_runtime.bundle import Bundle
    from basic_runtime.codec import Codec
    from basic_runtime.engines import available_backends
    from basic_runtime.engines.native import native_version
    from basic_runtime.errors import EngineMismatchError

    opened = Bundle(bundle)
    results = []
    for name in engines or (AUTO, *available_backends()):
        try:
            codec = Codec(opened, name, threads=threads)
        except EngineMismatchError as error:
            if engines:
                raise
            tell_note(f"engine {name} is left out: {error}")
            continue
        for check in codec.verify():
            results.append(
                {
                    "engine": name,
                    "version": codec.backend.version,
                    "native": native_version() if check.native else None,
                    "variant": check.variant,
                    "exact": check.error is None,
                    "error": None if check.error is None else str(check.error),
                }
            )
    if as_json:
        model = {"name": opened.name, "id": opened.model_id}
        click.echo(json.dumps({"model": model, "checks": results}, indent=2))
    for result in results:
        if result["error"]:
            tell_error(str(result["error"]))
        elif not as_json:
            computed = f", computed by {result['native']}" if result["native"] else ""
            click.echo(
                f"{result['engine']} {result['version']}: entropy variant {result['variant']} is exact{computed}"
            )
    if any(result["error"] for result in results):
        click.get_current_context().exit(1)
