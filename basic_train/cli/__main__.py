"""`python -m basic_train.cli`, the same as `basic-train`."""

from basic_train.cli import main

main()
