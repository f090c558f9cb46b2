"""Every call of ip2p has its types checked while tests run, shapes of tensors included."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from checked_types import is_shape
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from ip2p.measuring.psnr import psnr
from ip2p.storybook.language import parse


@pytest.mark.parametrize("text", [3, None, b"a red barn"])
def test_arguments_are_checked(text: Any) -> None:
    with pytest.raises(BeartypeCallHintParamViolation, match="text="):
        parse(text)


def test_shapes_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="psnr"):
        psnr(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 5))


def test_shapes_are_found_in_annotations() -> None:
    shape = Float[Tensor, "b 3"]
    for hint in (shape, shape | None, list[shape], dict[str, tuple[int, shape]], Callable[[int, shape], None]):
        assert is_shape(hint), hint
    for other in (Tensor, int | None, Iterator[str], Callable[..., Tensor], torch.dtype):
        assert not is_shape(other), other
