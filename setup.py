"""Builds the C++ extension with CMake; all other settings are in pyproject.toml."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeExtension(Extension):
    """An extension whose sources and flags are CMake's business."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class CMakeBuild(build_ext):
    """Configures and builds the root CMakeLists.txt, and puts the module where setuptools expects it.

    ``BASIC_BUILD_TYPE`` picks another build type than Release, ``CMAKE_ARGS`` adds options of CMake.
    """

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build_type = os.environ.get("BASIC_BUILD_TYPE", "Release")
        options = [
            f"-DCMAKE_BUILD_TYPE={build_type}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            "-DBASIC_PYTHON=ON",
            "-DBASIC_TESTS=OFF",
        ]
        options += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
        # A fresh folder: pip brings another cmake each time, which would trip over a cache of the last one.
        with tempfile.TemporaryDirectory(prefix="basic-build-") as folder:
            self._cmake("-S", str(ROOT), "-B", folder, "-G", "Ninja", *options)
            self._cmake("--build", folder, "--target", ext.name.rpartition(".")[2], "--parallel", jobs)

    def _cmake(self, *arguments: str) -> None:
        subprocess.run([_tool("cmake"), *arguments], check=True)


def _tool(name: str) -> str:
    """A program of the build requirements: pip brings it as a Python package, others as one of the system's."""
    folder = ""
    with suppress(ImportError):
        package = import_module(name)
        folder = getattr(package, "BIN_DIR", "") or getattr(package, "CMAKE_BIN_DIR", "")
    found = shutil.which(name, path=folder or None)
    if found is None:
        sys.exit(f"basic-codec: {name} is missing, which builds its C++: pip install {name}")
    return found


setup(ext_modules=[CMakeExtension("basic_runtime._native")], cmdclass={"build_ext": CMakeBuild})
