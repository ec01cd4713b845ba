"""Helpers shared by the commands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from basic_runtime.errors import MissingExtraError

EXTRA_PACKAGES = {"torch", "lightning_fabric", "tensorboard", "matplotlib", "pytorch_msssim"}


@contextmanager
def extra_packages(what: str) -> Iterator[None]:
    """Around code that imports the packages of the extra `train`: a missing one becomes a
    MissingExtraError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRA_PACKAGES:
            raise
        raise MissingExtraError.of(what, "train") from error


def field_values(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Any] | None:
    """FIELD=VALUE texts as a dictionary; values are those of TOML, or else plain text."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not FIELD=VALUE")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found or None
