"""Checkpoints: weights as safetensors with the model's configuration in its header, no pickled code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from basic_runtime.errors import BasicError, FileError
from basic_runtime.files import FREE_SPACE, write_bytes, write_file
from basic_train.model.config import ModelConfig
from basic_train.model.supernet import Supernet

FORMAT = "basic-checkpoint-1"
MODEL_FILE = "model.safetensors"
"""The checkpoint in the folder of a run."""


class CheckpointError(BasicError):
    """A checkpoint is missing, damaged or of another kind."""


def save(path: Path, weights: dict[str, Tensor], config: ModelConfig, history: dict[str, Any]) -> None:
    """Write weights, configuration and training history (patches, minutes, recipe) in one file."""
    metadata = {"format": FORMAT, "config": json.dumps(config.to_json()), "history": json.dumps(history)}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
    write_bytes(path, safetensors.torch.save(tensors, metadata), overwrite=True)


def file_of(path: Path) -> Path:
    """The checkpoint that a path means: itself, or that of the run whose folder it is."""
    path = Path(path)
    return path / MODEL_FILE if path.is_dir() else path


def read_header(path: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Configuration and training history of a checkpoint, or of a run's folder. Raises CheckpointError."""
    path = file_of(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error}); pass a model.safetensors") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a BaSIC checkpoint; pass the model.safetensors of basic-train run")
    try:
        return ModelConfig.from_json(json.loads(metadata["config"])), json.loads(metadata["history"])
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}: the header's configuration is damaged ({error}); train again or use another copy"
        raise CheckpointError(message) from error


def load(path: Path) -> tuple[Supernet, dict[str, Any]]:
    """The supernet in eval mode with its weights, and its history, of a checkpoint or a run's folder. Missing or extra
    weights are an error, and such that are not finite."""
    path = file_of(path)
    config, history = read_header(path)
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    net = Supernet(config)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit the configuration in the file: {in_short(error)}") from error
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path}: the weights {name} are not finite, as its training diverged; use an earlier copy, or train "
                "again with a lower --learning-rate"
            )
    return net.eval(), history


def in_short(error: Exception) -> str:
    """Of what PyTorch says of weights that do not fit, a line for each kind or tensor, the first."""
    lines = str(error).splitlines()
    return shorten(lines[min(1, len(lines) - 1)], 200) if lines else type(error).__name__


def load_with_grouping(path: Path, grouping: str | None) -> tuple[Supernet, dict[str, Any]]:
    """`load`, then of several groupings the named one, or the first."""
    net, history = load(path)
    if grouping is None:
        return net, history
    try:
        return net.with_grouping(grouping), history
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def save_state(path: Path, state: dict[str, Any], save_model: Callable[[], None] = lambda: None) -> None:
    """Write the trainer's state (optimiser, random generators, step counters) for exact resume. Raises FileError.

    `save_model` writes the model of a run once there was room for the state, which gets its name after it: a disk that
    is full leaves both files as they were.
    """

    def write(file: BinaryIO) -> None:
        torch.save(state, file)
        file.flush()
        save_model()

    try:
        write_file(path, write, overwrite=True)
    except RuntimeError as error:  # what torch makes of a disk that is full
        reason = str(error).partition("\n")[0]
        raise FileError(f"{path}: cannot be written ({reason}); {FREE_SPACE}") from error


def load_state(path: Path) -> dict[str, Any]:
    """Read the trainer's state; only tensors and plain values are unpickled. Raises CheckpointError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises anything on a damaged file
        reason = str(error).partition("\n")[0].partition(". ")[0]
        if isinstance(error, EOFError) or "central directory" in reason:  # which lies at the end
            reason = "the file is cut short"
        raise CheckpointError(
            f"{path}: not a readable training state ({reason}); --start-from {path.with_name(MODEL_FILE)} with another "
            "--output keeps its weights"
        ) from error
