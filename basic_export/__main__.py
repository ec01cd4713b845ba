"""`python -m basic_export`: the command `basic-export`."""

from basic_export.cli import main

main(prog_name="basic-export")
