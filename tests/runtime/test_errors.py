"""Errors are one line, keep their class, and name the file and the missing extra."""

import pickle

import pytest

from basic_runtime import errors
from basic_runtime.errors import BasicError, FormatError, MissingExtraError, TruncatedError


def test_messages_are_one_line() -> None:
    assert str(BasicError("my  photo.png: a\n  b\r\n")) == "my  photo.png: a b"


def test_in_file_keeps_the_class_and_names_the_file() -> None:
    error = TruncatedError("is cut off").in_file("photo.basic")
    assert type(error) is TruncatedError and isinstance(error, FormatError)
    assert str(error) == "photo.basic: is cut off"
    assert str(error.in_file("a\nb")) == "a b: photo.basic: is cut off"


def test_missing_extra_names_the_pip_install() -> None:
    error = MissingExtraError.of("exporting", "export").in_file("model.pt")
    assert str(error) == (
        "model.pt: exporting needs packages that are missing: pip install '.[export]' in the sources of basic-codec"
    )
    assert error.extra == "export"


@pytest.mark.parametrize("name", [name for name in dir(errors) if name.endswith("Error")])
def test_all_errors_are_basic_errors(name: str) -> None:
    assert issubclass(getattr(errors, name), BasicError)


@pytest.mark.parametrize("error", [FormatError("is cut off"), MissingExtraError.of("exporting", "export")])
def test_errors_come_out_of_other_processes(error: BasicError) -> None:
    for each in (error, error.in_file("a.basic")):
        back = pickle.loads(pickle.dumps(each))
        assert type(back) is type(each) and str(back) == str(each) and back.__dict__ == each.__dict__
