"""Errors are one line: what was wrong, and what to do."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ip2p import errors
from ip2p.errors import Ip2pError

TREE = [
    errors.ImageError,
    errors.InstructionError,
    errors.ModelError,
    errors.ConfigError,
    errors.DataError,
    errors.WriterError,
    errors.TrainingError,
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_an_ip2p_error_and_names_its_remedy(kind: type[Ip2pError]) -> None:
    error = kind("the file a.png is empty", "Give another one")
    assert isinstance(error, Ip2pError)
    assert str(error) == "the file a.png is empty. Give another one"


@given(st.text(), st.text())
def test_an_error_is_one_line_whatever_it_quotes(what: str, fix: str) -> None:
    assert len(str(Ip2pError(what, fix)).splitlines()) == 1


def test_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.DataError("torn", "redo")))
    assert (error.what, error.fix) == ("torn", "redo")


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in TREE)
    assert set(TREE) == set(Ip2pError.__subclasses__())
