"""`python -m basic_runtime`: `basic-run`, of this Python."""

from basic_runtime.cli import main

main(prog_name="basic-run")
