"""A bundle with engines for this machine's GPU, built by the library that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from basic_export.engines import build_engines, choose_targets, copy_bundle
from basic_runtime.bundle import Bundle
from basic_runtime.engines import Backend, create_backend
from basic_runtime.engines.cuda import compute_capability
from basic_runtime.engines.library import LIBRARIES


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results of golden checks are remembered apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", params=sorted(LIBRARIES))
def library(request: pytest.FixtureRequest) -> str:
    if not LIBRARIES[request.param].installed:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture(scope="session")
def bundle(library: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundled model with engines for this machine."""
    path: Path = tmp_path_factory.mktemp("gpu") / "lite"
    copy_bundle(Bundle().path, path)
    targets, _ = choose_targets(LIBRARIES[library], (compute_capability(),))
    build_engines(Bundle(path), LIBRARIES[library], targets, lambda step, number, total: None)
    return Bundle(path)


@pytest.fixture
def backend(library: str) -> Backend:
    return create_backend(library)
