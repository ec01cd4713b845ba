"""`python -m basic_runtime` runs `basic-run` with this Python."""

from basic_runtime.cli import main

main(prog_name="basic-run")
