"""Recipes as TOML files: one in this folder for each experiment, or the user's own.

A file holds values of fields of `Recipe` and a `summary` of one line; a table `[model]` changes fields of the preset.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from basic_runtime.errors import BasicError
from basic_train.recipe import Recipe

SUFFIX = ".toml"

#: Of the recipes that come along.
FOLDER = resources.files(__package__)


class RecipeError(BasicError):
    """A recipe is missing, or says something that no recipe can say."""


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as its file gives it."""

    name: str
    summary: str
    recipe: Recipe


def names() -> list[str]:
    """The recipes of this package, sorted."""
    files = (entry.name for entry in FOLDER.iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX))


def load(name: str) -> RecipeFile:
    """A recipe of this package by its name, or one of the user's by the path of its file, which ends in .toml.
    Raises RecipeError."""
    if name.endswith(SUFFIX):
        return _read(Path(name), name)
    if name not in names():
        raise RecipeError(
            f"unknown recipe {name!r}{_hint(name, names())}; `basic-train recipes` lists them, or pass a .toml file"
        )
    return _read(FOLDER / (name + SUFFIX), name)


def _read(file: Traversable, name: str) -> RecipeFile:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"{name}: not a readable recipe ({reason}); pass a TOML file") from error
    summary = values.pop("summary", "")
    known = [setting.name for setting in fields(Recipe)]
    for key in values:
        if key not in known:
            raise RecipeError(f"{name}: unknown key {key!r}{_hint(key, known)}")
    try:
        recipe = Recipe(**values)
    except ValueError as error:
        raise RecipeError(f"{name}: {error}") from error
    for key, value in values.items():
        if (reason := recipe.idle(key)) and value != getattr(Recipe, key):  # printed recipes give all defaults
            raise RecipeError(f"{name}: {key}={value}: {reason}")
    return RecipeFile(name, summary, recipe)


def require_model(file: RecipeFile) -> None:
    """Raises RecipeError where no preset can be changed as a file says; asks PyTorch's part of this package."""
    from basic_train.model.presets import PRESETS, changed

    recipe = file.recipe
    if recipe.preset not in PRESETS:
        raise RecipeError(f"{file.name}: unknown preset {recipe.preset!r}{_hint(recipe.preset, list(PRESETS))}")
    try:
        changed(PRESETS[recipe.preset], recipe.model)
    except ValueError as error:
        raise RecipeError(f"{file.name}: {error}") from error


def to_toml(file: RecipeFile) -> str:
    """All fields of a recipe as the text of a file that gives it again; those without a value are comments."""
    values = asdict(file.recipe)
    model = values.pop("model")
    lines = [f"summary = {_toml(file.summary)}"]
    lines += [f"# {key} is not set" if value is None else f"{key} = {_toml(value)}" for key, value in values.items()]
    if model:
        lines += ["", "[model]", *(f"{key} = {_toml(value)}" for key, value in model.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value as TOML: that is JSON, but for tables, infinities and escapes beyond the first 65,536 characters."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _hint(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f", did you mean {near[0]!r}?" if near else ""
