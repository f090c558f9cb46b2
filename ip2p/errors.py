"""Exceptions of expected failures: every error says what was wrong and how to fix it.

Ip2pError
├── ImageError         a picture cannot be read or written
├── InstructionError   an instruction or a caption is empty or not text
├── ModelError         weights are missing, damaged, or of another kind than requested
├── ConfigError        a config file, key or value is wrong
├── DataError          a record, shard or data set is missing, torn or of another shape
│   └── BusyError      another run is writing to the folder
├── WriterError        the language model that writes triples cannot be reached or refuses
│   └── BudgetError    the next request to it could cost more than is left
└── TrainingError      training cannot continue
"""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a system that has no room for a file."""
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a system on which nothing may be written to a place."""
IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP)
"""Errors of a system where something else is in the way: a file in place of a folder, a folder, or a link to itself."""
UNWRITABLE = (*FULL, *FORBIDDEN, *IN_THE_WAY, errno.ENAMETOOLONG)
"""Errors with which a system may answer a write."""
ROOM_HINT = "Make room for it: what is finished is kept, and the same command goes on from here"
FORBIDDEN_HINT = "Give another folder, or allow yourself to write to this one"


class Ip2pError(Exception):
    """An expected failure, described in one line.

    Args:
        what: description of what was wrong and where, with the value; without a full stop.
        fix: instruction that says how to fix it.
        arguments: names of the arguments that the text mentions; the command line replaces them with its options.
    """

    def __init__(self, what: str, fix: str, *, arguments: Sequence[str] = ()) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix
        self.arguments = tuple(arguments)

    def __str__(self) -> str:
        return " ".join(f"{self.what}. {self.fix}".split())


class ImageError(Ip2pError):
    """A picture is missing, unreadable, too large, or of a shape that no model takes; or cannot be written."""


class InstructionError(Ip2pError):
    """An instruction or a caption is empty, or there are not as many as pictures."""


class ModelError(Ip2pError):
    """Weights are missing, damaged, or of another kind than requested."""


class ConfigError(Ip2pError):
    """A config file is missing, a key unknown, or a value out of range."""


class DataError(Ip2pError):
    """A record, shard or data set is missing, torn, or of another shape than expected."""


class BusyError(DataError):
    """Another run is writing to the folder."""


class WriterError(Ip2pError):
    """The language model that writes triples cannot be reached, or refuses the request."""


class BudgetError(WriterError):
    """The next request to the language model could cost more money or tokens than are left."""


class TrainingError(Ip2pError):
    """Training cannot continue: the loss is not finite, or the run on disk is of another kind."""


def require_unicode(text: str, what: str) -> None:
    """Check that a text has no part of a character, as a command line or a file that is not UTF-8 gives.

    Raises:
        InstructionError: it has one.
    """
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InstructionError(f"the {what} {text!r} is not UTF-8", "Write it in UTF-8")


def run_program(work: Callable[[], object], *, debug: bool = False) -> int:
    """Do the work of a program and return its exit code: 2 after an expected failure, which is told in one line.

    Args:
        work: function that does the work; a number that it returns is the exit code, which is 0 otherwise.
        debug: whether to raise expected failures, too.
    """
    try:
        code = work()
    except Exception as error:
        expected = find_expected(error)
        if debug or expected is None:
            raise
        print(f"error: {expected}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0


def find_expected(error: Exception) -> Ip2pError | None:
    """Return the expected failure that an error is, as any write is that the system refuses; None if it is none."""
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return DataError("there is no folder for temporary files that can be written to", "Name one by TMPDIR")
    if isinstance(error, RuntimeError) and (loop := re.fullmatch(r"Symlink loop from '(.*)'", str(error), re.DOTALL)):
        return DataError(f"{loop[1]} is a link to itself", "Give another name")  # of pathlib before Python 3.13
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return DataError(f"cannot write {error.filename or 'a file'} ({error.strerror})", write_hint(error.errno))
    return error if isinstance(error, Ip2pError) else None


@contextmanager
def told_if_unwritable(path: Path) -> Iterator[None]:
    """Context manager for writing a file, in which it is an expected failure that the system refuses to.

    Raises:
        DataError: the disk, the quota or the largest size of a file is reached; nothing may be written there; or
            something else is in the way.
    """
    try:
        yield
    except Exception as error:
        number = _system_error(error)
        if number not in FULL and not _is_of_place(error, path):
            raise
        above = getattr(error, "filename", None)  # of the folders above the path, the one that is none
        way = f"{above}: " if number in IN_THE_WAY and above and path.is_relative_to(above) else ""
        raise DataError(f"{path} cannot be written ({way}{os.strerror(number)})", write_hint(number)) from error


def write_hint(number: int | None) -> str:
    """Say what to do when a file cannot be written, by the number of the system's error."""
    if number == errno.ENAMETOOLONG:
        return "Give a shorter name"
    if number in IN_THE_WAY:
        return "Give another name"
    return FORBIDDEN_HINT if number in FORBIDDEN else ROOM_HINT


def _is_of_place(error: Exception, path: Path) -> bool:
    """Return whether the system refuses to write at a path; others of these errors may be of what is read meanwhile."""
    if not (isinstance(error, OSError) and error.errno in UNWRITABLE and isinstance(error.filename, str)):
        return False
    named = Path(error.filename)
    return named.is_relative_to(path.parent) or path.is_relative_to(named)


def _system_error(error: Exception) -> int:
    """Return the number of the system's error; safetensors tells it in words, and torch has it behind its own."""
    if isinstance(error, Ip2pError):
        return 0
    for each in (error, error.__context__):
        if isinstance(each, OSError):
            return each.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0


@contextmanager
def settings_of(section: str) -> Iterator[None]:
    """Context manager in which errors that mention arguments mention the settings of a section of a config instead."""
    try:
        yield
    except Ip2pError as error:
        if not error.arguments:
            raise
        names = "|".join(map(re.escape, error.arguments))
        what, fix = (re.sub(rf"(?<![\w.-])({names})\b", rf"{section}.\1", text) for text in (error.what, error.fix))
        raise type(error)(what, fix) from error


def reason(error: BaseException, limit: int = 200) -> str:
    """The message of an exception on one line, for texts that name the file: an error of the system without it."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or one_line(error, limit)


def one_line(error: BaseException, limit: int = 200) -> str:
    """The message of an exception on one line of at most `limit` characters; its type if it has no message."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
