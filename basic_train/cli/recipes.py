"""`basic-train recipes`: list them, or print one."""

from __future__ import annotations

from dataclasses import asdict

import click

from basic_train import recipes as files


@click.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes, or print all fields of one: NAME, or a .toml file of your own."""
    if name is not None:
        for field, value in asdict(files.load(name).recipe).items():
            click.echo(f"{field} = {value}")
        return
    width = max(map(len, files.names()))
    for known in files.names():
        click.echo(f"{known:{width}}  {files.load(known).summary}")
