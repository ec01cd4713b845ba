"""Tensors of a foreign checkpoint by name; whatever is doubtful is an error of one line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from basic_train.checkpoint import CheckpointError

#: Keys under which training frameworks keep the weights beside other things.
WRAPPERS = ("state_dict", "model_state_dict", "model")


class Entries:
    """A state dict from a file. `take` hands out tensors as float32 and checks what they are."""

    def __init__(self, name: str, tensors: dict[str, Tensor], prefix: str = "") -> None:
        self.name, self.tensors, self.prefix = name, tensors, prefix

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def below(self, prefix: str) -> Entries:
        """The entries whose names begin with a prefix, without it (messages still name it)."""
        found = {key[len(prefix) :]: t for key, t in self.tensors.items() if key.startswith(prefix)}
        return Entries(self.name, found, self.prefix + prefix)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor. Raises CheckpointError if there is none of this name."""
        if key not in self.tensors:
            raise CheckpointError(f"{self.name}: has no tensor {self.prefix}{key}; pass a complete state dict")
        return tuple(self.tensors[key].shape)

    def take(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor as float32. Raises CheckpointError if it is missing, of another shape or not finite."""
        if self.shape(key) != shape:
            raise CheckpointError(
                f"{self.name}: {self.prefix}{key} is {_sides(self.shape(key))}, not {_sides(shape)}; "
                "the file is of another architecture, or damaged"
            )
        tensor = self.tensors[key]
        if tensor.layout != torch.strided or not tensor.is_floating_point():
            raise CheckpointError(f"{self.name}: {self.prefix}{key} is of type {tensor.dtype}; numbers are expected")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f"{self.name}: {self.prefix}{key} repeats numbers to fill its shape; the file is damaged"
            )
        value = tensor.detach().float().contiguous()
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{self.name}: {self.prefix}{key} holds infinities or NaN; use an earlier checkpoint")
        return value


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def read_entries(path: Path) -> Entries:
    """The tensors of a PyTorch or safetensors file. Raises CheckpointError.

    Pickled code is refused, not run (`torch.load` with weights_only). Values other than tensors are left out.
    """
    content = _safetensors(path) if path.suffix == ".safetensors" else _pytorch(path)
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = _tensors(content)
    if not tensors:
        raise CheckpointError(f"{path}: holds no state dict; save model.state_dict() with torch.save")
    return Entries(str(path), tensors)


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        return {}
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    return {key.removeprefix("module."): value for key, value in named.items() if isinstance(value, Tensor)}


def _safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # damaged headers raise anything
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); check the path") from error


def _pytorch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds objects other than tensors, which could run code and are not read; "
            "save its state_dict() alone"
        ) from error
    except Exception as error:  # damaged files raise anything
        raise CheckpointError(
            f"{path}: not a readable PyTorch file ({type(error).__name__}); pass a state dict saved by torch.save"
        ) from error
