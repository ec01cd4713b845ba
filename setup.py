"""Builds the C++ extension with CMake; all other settings are in pyproject.toml."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import ninja
import pybind11
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
            f"-DCMAKE_MAKE_PROGRAM={Path(ninja.BIN_DIR) / 'ninja'}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
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
        # The cmake of the build requirements is a Python package, so the module finds it in any environment.
        subprocess.run([sys.executable, "-m", "cmake", *arguments], check=True)


setup(ext_modules=[CMakeExtension("basic_runtime._coder")], cmdclass={"build_ext": CMakeBuild})
