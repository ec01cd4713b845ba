"""`basic-train recipes`: list them, or print one."""

from __future__ import annotations

import click

from basic_train import recipes as files
from basic_train.cli.setup import extra_packages


@click.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes, or print all fields of one: NAME, or a .toml file of your own.

    \b
    basic-train recipes lite > mine.toml
    """
    if name is not None:
        file = files.load(name)
        if name.endswith(files.SUFFIX):
            with extra_packages("checking a recipe's model"):
                files.require_model(file)
        click.echo(files.to_toml(file), nl=False)
        return
    width = max(map(len, files.names()))
    for known in files.names():
        click.echo(f"{known:{width}}  {files.load(known).summary}")
