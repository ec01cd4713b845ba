"""The command `basic-run`. Only click is imported before a command runs, so that --help is quick."""

from __future__ import annotations

import gc
import os

import click

from basic_runtime.cli.decode import decode
from basic_runtime.cli.encode import encode
from basic_runtime.cli.errors import OneLineErrors
from basic_runtime.cli.evaluate import evaluate
from basic_runtime.cli.info import info
from basic_runtime.cli.pack import pack
from basic_runtime.cli.profile import profile
from basic_runtime.cli.verify import verify
from basic_runtime.cli.web import web


class _Group(OneLineErrors, click.Group):
    program = "basic-run"


def _print_versions(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from basic_runtime.cli.versions import version_lines

        click.echo("\n".join(version_lines()))
        context.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Print the versions of library, model and engines.",
)
def main() -> None:
    """Compress pictures with a learned codec, and decode them again.

    \b
    basic-run encode photo.jpg                 writes photo.basic
    basic-run decode photo.basic -o back.png
    """
    # NumPy's threads, which no command uses, would spin for 25 ms after its import: a fifth of the processor time of a
    # small decode. This, which NumPy reads when it is imported, sends them to sleep at once (after 2^4 cycles).
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    # Objects made at the start stay: looking for garbage every 700 of them takes a twelfth of a small decode in vain.
    gc.set_threshold(50_000)


for _command in (encode, decode, info, verify, profile, evaluate, pack, web):
    main.add_command(_command)
