"""Does an engine on this machine compute the entropy path bit by bit as the exporter did?

Asked once per bundle, engine, version and CPU: a good answer is remembered in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from functools import cache
from pathlib import Path

import numpy as np

from basic_runtime.bundle import Bundle
from basic_runtime.engines import Backend
from basic_runtime.entropy import GroupedEntropy
from basic_runtime.errors import BundleError, EngineError


def check_golden(bundle: Bundle, variant: int, backend: Backend, entropy: GroupedEntropy) -> None:
    """Run the golden vector of an entropy variant.

    Raises EngineError if the results differ by a bit, BundleError if the bundle has no such vector.
    """
    prefix = f"e{variant}."
    golden = {
        name.removeprefix(prefix): value.astype(np.float32)
        for name, value in bundle.golden().items()
        if name.startswith(prefix)
    }
    try:
        computed = entropy.golden_sha256(golden.pop("z"), golden)
    except KeyError as error:
        raise BundleError(
            f"{bundle.path / 'golden.safetensors'}: tensor {prefix}{error.args[0]} is missing"
        ) from error
    if computed != bundle.entropy(variant).golden_sha256:
        raise EngineError(
            f"engine {backend.name!r} {backend.version} does not reproduce the golden vector of model "
            f"{bundle.name} (entropy variant {variant}) on this machine, and its files would be unreadable: "
            "choose another with --engine"
        )


def ensure_golden(bundle: Bundle, variant: int, backend: Backend, entropy: GroupedEntropy) -> None:
    """`check_golden`, unless this machine is known to have passed it. An unwritable cache is no error."""
    marker = _marker(bundle, variant, backend)
    if marker.is_file():
        return
    check_golden(bundle, variant, backend, entropy)
    with contextlib.suppress(OSError):
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()


def cache_folder() -> Path:
    """Where results of golden checks are remembered: $XDG_CACHE_HOME/basic, or ~/.cache/basic."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path(os.path.expanduser("~/.cache"))) / "basic"


def _marker(bundle: Bundle, variant: int, backend: Backend) -> Path:
    spec = bundle.entropy(variant)
    graphs = [spec.h_s, *(stage.graph for stage in spec.stages)]
    key = [
        bundle.manifest.model_id, bundle.manifest.files["weights.bin"], spec.golden_sha256, *graphs,
        backend.name, backend.version, backend.settings(), backend.threads, processor(),
    ]  # fmt: skip
    return cache_folder() / "golden" / hashlib.sha256(repr(key).encode()).hexdigest()[:32]


@cache
def processor() -> str:
    """Name and features of the processor: other instructions mean other kernels."""
    described = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "flags", "Features")):
                described.append(line)
            if line == "":
                break
    return "|".join(described)
