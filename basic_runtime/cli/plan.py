"""Plans what a command does: finds its inputs, names their outputs and checks both."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from basic_runtime.cli.folders import Input, Inputs, find_inputs, is_folder
from basic_runtime.cli.options import check_named
from basic_runtime.definitions import EXTENSION
from basic_runtime.errors import BasicError, FileError
from basic_runtime.files import STANDARD_OUTPUT, STREAM, check_target, is_descriptor, make_folder


@dataclass(frozen=True)
class Job:
    """One input and where its output goes; `-` is a standard stream, a target of "" none. One with an error fails."""

    source: str
    target: str = ""
    error: BasicError | None = None


@dataclass(frozen=True)
class Plan:
    """The jobs of a command, and a note for the end on files in its folders that were left out."""

    jobs: list[Job]
    note: str = ""


def plan_jobs(
    sources: Sequence[str],
    output: str | None,
    out_dir: str | None,
    extension: str,
    known: Collection[str],
    overwrite: bool,
    skip_existing: bool,
    keep_extension: bool | None = None,
) -> Plan:
    """Pair inputs with outputs; a folder stands for the files of `known` extensions in it, whose tree is kept under
    `out_dir`. Of inputs that would get one output, all but the first fail. `keep_extension`: whether the output's
    extension goes behind the input's; None where a command has no such option.

    Raises click.UsageError for options that contradict each other.
    """
    output = STREAM if output in STANDARD_OUTPUT else output
    _check_options(sources, output, out_dir, overwrite, skip_existing, bool(keep_extension))
    inputs = find_inputs(sources, known)
    jobs = [_job(each, output, out_dir, extension, bool(keep_extension)) for each in inputs.found.values()]
    targets = [Path(job.target) for job in jobs if job.target]
    if out_dir is not None and targets:
        for folder in (Path(out_dir), *{target.parent for target in targets}):
            make_folder(folder)
    return Plan(_refuse_doubles(jobs, keep_extension is False), _note(inputs, known, extension))


def plan_reading(sources: Sequence[str]) -> list[Job]:
    """Packed files to read, without outputs; a folder stands for those in it.

    Raises click.UsageError if standard input is named twice.
    """
    inputs = find_inputs(sources, [EXTENSION])
    return [Job(each.source, error=each.error) for each in inputs.found.values()]


def _check_options(
    sources: Sequence[str],
    output: str | None,
    out_dir: str | None,
    overwrite: bool,
    skip_existing: bool,
    keep_extension: bool,
) -> None:
    check_named("-o or --out-dir", output, out_dir)
    if overwrite and skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other")
    if output is None:
        return
    if out_dir is not None:
        raise click.UsageError("-o and --out-dir exclude each other")
    if keep_extension:
        raise click.UsageError("-o and --keep-extension exclude each other")
    if len(sources) > 1:
        raise click.UsageError("-o names one output and there are several inputs: use --out-dir")
    if is_folder(sources[0]):
        raise FileError(f"{sources[0]}: is a folder, and -o names one file: use --out-dir")


def _job(given: Input, output: str | None, out_dir: str | None, extension: str, keep_extension: bool) -> Job:
    if given.error is not None:
        return Job(given.source, error=given.error)
    return Job(given.source, output or _default_target(given, out_dir, extension, keep_extension))


def _note(inputs: Inputs, known: Collection[str], extension: str) -> str:
    """On files that were left out by their names. Outputs that lie beside their inputs are none of them."""
    counts = Counter(each for each in inputs.left_out.values() if each != extension)
    count = counts.total()
    if not count:
        return ""
    which = ", ".join(f"{number} {each or 'without an extension'}" for each, number in counts.most_common())
    if len(known) == 1:
        why = f"not named {next(iter(known))}"
    else:
        why = "no picture by its name" if count == 1 else "no pictures by their names"
    return f"left out {count} {'file that is' if count == 1 else 'files that are'} {why}: {which}"


def check_output(job: Job, overwrite: bool) -> None:
    """Raises FileError if the output is the input itself, or cannot or may not be written."""
    if job.target != STREAM and os.path.realpath(job.target) == os.path.realpath(job.source):
        raise FileError(f"{job.target}: is the input itself: name another output with -o")
    check_target(job.target, overwrite)


def _default_target(given: Input, out_dir: str | None, extension: str, keep_extension: bool) -> str:
    source = Path(given.source)
    if given.source == STREAM:
        if out_dir is not None:
            raise click.UsageError("standard input has no name to use in --out-dir: use -o")
        return STREAM
    if is_descriptor(given.source):
        raise click.UsageError(f"{given.source} has no name to use for an output: use -o")
    if source.name:
        source = source.with_name(source.name + extension) if keep_extension else source.with_suffix(extension)
    return str(source if out_dir is None else Path(out_dir) / given.folder / source.name)


def _refuse_doubles(jobs: Sequence[Job], may_keep_extension: bool) -> list[Job]:
    """The jobs, in which those that would write the same file as one before them have an error instead."""
    first: dict[str, Job] = {}
    checked = []
    for job in jobs:
        before = first.setdefault(os.path.realpath(job.target), job) if job.target not in ("", STREAM) else job
        checked.append(job if before is job else _refused(job, before, may_keep_extension))
    return checked


def _refused(job: Job, before: Job, may_keep_extension: bool) -> Job:
    kept = may_keep_extension and Path(job.source).suffix != Path(before.source).suffix
    way_out = f"{'use --keep-extension, ' if kept else ''}rename one, or name its output with -o"
    reason = f"would be written to {job.target}, as {before.source} is: {way_out}"
    return replace(job, error=FileError(f"{job.source}: {reason}"))
