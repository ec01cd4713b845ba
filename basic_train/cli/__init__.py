"""The command `basic-train`. Only click is imported before a command runs, so that --help is quick."""

from __future__ import annotations

import click

from basic_runtime import __version__
from basic_runtime.cli.errors import OneLineErrors
from basic_train.cli.groupings import groupings
from basic_train.cli.import_ import import_
from basic_train.cli.info import info
from basic_train.cli.levels import levels
from basic_train.cli.narrow import narrow
from basic_train.cli.prepare import prepare
from basic_train.cli.recipes import recipes
from basic_train.cli.run import run


class _Group(OneLineErrors, click.Group):
    program = "basic-train"


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="basic-train")
def main() -> None:
    """Train the supernet of BaSIC: one set of weights for all widths and qualities."""


for _command in (prepare, import_, recipes, run, groupings, levels, narrow, info):
    main.add_command(_command)
