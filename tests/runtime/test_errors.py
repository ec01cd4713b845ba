"""Errors are one line, keep their class, and name the file and the missing extra."""

import pytest

from basic_runtime import errors
from basic_runtime.errors import BasicError, FormatError, MissingExtraError, TruncatedError


def test_messages_are_one_line() -> None:
    assert str(BasicError("a  b\n  c")) == "a b c"


def test_in_file_keeps_the_class_and_names_the_file() -> None:
    error = TruncatedError("is cut off").in_file("photo.basic")
    assert type(error) is TruncatedError and isinstance(error, FormatError)
    assert str(error) == "photo.basic: is cut off"


def test_missing_extra_names_the_pip_install() -> None:
    error = MissingExtraError("exporting", "export").in_file("model.pt")
    assert str(error) == (
        "model.pt: exporting needs packages that are missing: pip install 'basic-codec[export]'"
    )
    assert error.extra == "export"


@pytest.mark.parametrize("name", [name for name in dir(errors) if name.endswith("Error")])
def test_all_errors_are_basic_errors(name: str) -> None:
    assert issubclass(getattr(errors, name), BasicError)
