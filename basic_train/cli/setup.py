"""What the commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
        raise MissingExtraError(what, "train") from error
