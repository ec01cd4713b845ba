"""Checks that an engine computes the entropy path bit by bit as the exporter did.

It does so once for each bundle, engine, version and processor: a check that was passed is remembered in the user's
cache folder.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basic_runtime.bundle import Bundle
from basic_runtime.cache import processor, remember, remembered
from basic_runtime.definitions import GOLDEN, WEIGHTS
from basic_runtime.engines import Backend
from basic_runtime.engines.native import native_key
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
        raise BundleError(f"{bundle.path / GOLDEN}: tensor {prefix}{error.args[0]} is missing") from error
    if computed != bundle.entropy(variant).golden_sha256:
        raise EngineError(
            f"engine {backend.name!r} {backend.version} does not reproduce the golden vector of model "
            f"{bundle.name} (entropy variant {variant}) on this machine, and its files would be unreadable: "
            "choose another with --engine"
        )


def ensure_golden(bundle: Bundle, variant: int, backend: Backend, entropy: GroupedEntropy) -> None:
    """`check_golden`, unless this machine is known to have passed it. An unwritable cache is no error."""
    question = _question(bundle, variant, backend, entropy)
    if remembered("golden", question) is None:
        check_golden(bundle, variant, backend, entropy)
        remember("golden", question)


def _question(bundle: Bundle, variant: int, backend: Backend, entropy: GroupedEntropy) -> list[Any]:
    spec = bundle.entropy(variant)
    library = None if entropy.native else [backend.version, backend.settings(), backend.engines_key(bundle.path)]
    return [
        bundle.manifest.model_id,
        bundle.manifest.files[WEIGHTS],
        spec.golden_sha256,
        *spec.graphs,
        backend.name,
        backend.threads,
        library,
        native_key() if backend.native_entropy else None,
        processor(),
    ]
