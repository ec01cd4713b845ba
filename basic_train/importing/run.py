"""Imports a file: recognises its kind and turns it into a supernet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from basic_train.checkpoint import CheckpointError
from basic_train.importing import compressai, original
from basic_train.importing.entries import Entries, read_entries
from basic_train.model.supernet import Supernet

DEFAULT_GROUPING = "checkerboard"

#: CompressAI's files do not say their lambda; this is that of its fourth quality.
DEFAULT_LAMBDA = 0.013


@dataclass(frozen=True)
class Choices:
    """What a file leaves open. codec: which of its models; order: which of a model's decoding orders; lambda_:
    that it was trained for; lambda_range: of the qualities that it is to learn; grouping: by name, for models
    that decode position by position [DEFAULT_GROUPING]."""

    codec: int | None = None
    order: int | None = None
    lambda_: float | None = None
    lambda_range: tuple[float, float] | None = None
    grouping: str | None = None


@dataclass
class Imported:
    """A supernet, the kind of model that it was, and lines on what differs from it."""

    net: Supernet
    kind: str
    notices: list[str] = field(default_factory=list)


def import_file(path: Path, choices: Choices = Choices()) -> Imported:  # noqa: B008 (frozen)
    """Read a checkpoint of the original or of CompressAI. Raises CheckpointError with one line, also for choices that
    the file does not leave."""
    entries = read_entries(path)
    imported = _original(entries, choices) if original.recognised(entries) else _compressai(entries, choices)
    if choices.grouping not in (None, imported.net.config.grouping_name):
        raise CheckpointError(f"{path}: has a decoding order of its own; leave --grouping out")
    return imported


def _original(entries: Entries, choices: Choices) -> Imported:
    notices: list[str] = []
    chosen, codec = original.select(entries, choices.codec)
    lambda_ = choices.lambda_ or original.LAMBDAS[min(codec, len(original.LAMBDAS) - 1)]
    if choices.lambda_ is None:
        notices.append(f"lambda {lambda_} is assumed, that of model {codec} in the original's recipes")
    span = choices.lambda_range or (lambda_, lambda_)
    grouping = choices.grouping or DEFAULT_GROUPING
    order = choices.order
    if order is None and choices.grouping is not None and original.orders(chosen):
        order = 0  # the one that decodes position by position, for which a grouping stands in
    net = original.convert(chosen, order, lambda_, span, grouping, notices)
    return Imported(net, f"BaSIC, model {codec}", notices)


def _compressai(entries: Entries, choices: Choices) -> Imported:
    kind = compressai.architecture(entries)
    for option, value in (("--codec", choices.codec), ("--grouping", choices.order)):
        if value is not None:
            raise CheckpointError(
                f"{entries.name}: {option} {value} is for files of the original BaSIC, and this is of CompressAI; "
                "leave it out"
            )
    notices: list[str] = []
    if choices.lambda_ is None:
        notices.append(f"the file does not say its lambda: {DEFAULT_LAMBDA} is assumed")
    lambda_ = choices.lambda_ or DEFAULT_LAMBDA
    grouping = choices.grouping or DEFAULT_GROUPING
    net = compressai.convert(entries, lambda_, choices.lambda_range or (lambda_, lambda_), grouping)
    if kind == "mbt2018":
        notices.append(f"the model decodes position by position; {grouping} stands in for it and needs fine-tuning")
    return Imported(net, f"CompressAI {kind}", notices)
