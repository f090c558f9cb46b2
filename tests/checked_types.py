"""Makes the checks of types by jaxtyping quick; conftest.py imports this before it imports anything of ip2p.

pytest has jaxtyping decorate all functions of ip2p, so that beartype checks their arguments and results, and jaxtyping
the shapes of tensors. A function whose annotations say no shape is checked by beartype alone, to the same effect: that
takes a tenth of the time, which the many small functions for texts feel.
"""

import inspect
import typing
from typing import Any

import jaxtyping
from beartype import beartype
from beartype.roar import BeartypeException

with_shapes = jaxtyping.jaxtyped


def quick(fn: Any = None, **options: Any) -> Any:
    """Decorate a function as jaxtyping.jaxtyped does, with beartype where there is no shape to check."""
    if fn is None:
        return lambda given: quick(given, **options)
    if inspect.isfunction(fn) and not says_shapes(fn):
        try:
            return beartype(fn)
        except BeartypeException:  # an annotation that only jaxtyping knows how to ignore
            pass
    return with_shapes(fn, **options)


def says_shapes(fn: Any) -> bool:
    """Whether an annotation has a type of jaxtyping, or a name that is not known yet."""
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except Exception:  # names that only a checker of types imports
        return True
    return any(map(is_shape, hints.values()))


def is_shape(hint: Any) -> bool:
    """Whether a type is one of jaxtyping, or made of one."""
    is_array = isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)
    parts = hint if isinstance(hint, list) else typing.get_args(hint)  # Callable has a list of arguments
    return is_array or any(map(is_shape, parts))


jaxtyping.jaxtyped = quick
