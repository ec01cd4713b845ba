"""A bundle with engines for this machine's GPU, built by the library that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from basic_export.engines import build_engines, choose_targets, copy_bundle
from basic_runtime.bundle import Bundle
from basic_runtime.engines import Backend, available_backends, create_backend
from basic_runtime.engines.cuda import compute_capability
from basic_runtime.engines.engine_set import unserved
from basic_runtime.engines.tensorrt_library import LIBRARIES, TENSORRT_RTX

from .device import ENGINE_SIZES, SIMULATED


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results of golden checks are remembered apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


#: Providers of ONNX Runtime, and what each needs besides the library.
PROVIDERS = {"onnxruntime-cuda": True, "onnxruntime-tensorrt": LIBRARIES["tensorrt"].installed}


@pytest.fixture(scope="session", params=[*sorted(LIBRARIES), *PROVIDERS])
def engine(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name in LIBRARIES and not LIBRARIES[name].installed:
        pytest.skip(f"{name} is not installed")
    if name == TENSORRT_RTX.name and unserved(compute_capability()):
        pytest.skip(f"{name} does not run on this GPU")
    if name in PROVIDERS and SIMULATED:
        pytest.skip(f"{name} is not simulated")
    if name in PROVIDERS and not (PROVIDERS[name] and name in available_backends()):
        pytest.skip(f"{name} is not installed (docs/gpu.md)")
    return name


@pytest.fixture(scope="session")
def bundle(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundled model, with engines for this machine where they are built ahead of time."""
    if engine not in LIBRARIES:
        return Bundle()
    path: Path = tmp_path_factory.mktemp("gpu") / "lite"
    copy_bundle(Bundle().path, path)
    targets, _ = choose_targets(LIBRARIES[engine], (compute_capability(),))
    build_engines(Bundle(path), LIBRARIES[engine], targets, lambda step, number, total: None, sizes=ENGINE_SIZES)
    return Bundle(path)


@pytest.fixture
def backend(engine: str) -> Backend:
    return create_backend(engine)
