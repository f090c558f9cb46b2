"""The precision probe: it takes the faster format, says which, and asks nothing where the answer is given."""

import time
from collections.abc import Callable

import pytest
import torch

from ip2p.device import best_device, choose_precision, parse_device
from ip2p.errors import ConfigError

CPU = torch.device("cpu")


def clock(fp32: float, bf16: float, seen: list[bool]) -> Callable[[], None]:
    """A step that takes the given seconds in each format."""

    def step() -> None:
        seen.append(torch.is_autocast_enabled("cpu"))
        time.sleep(bf16 if seen[-1] else fp32)

    return step


@pytest.mark.parametrize(("fp32", "bf16", "expected"), [(0.03, 0.01, torch.bfloat16), (0.01, 0.02, torch.float32)])
def test_the_faster_format_is_taken_and_named(fp32: float, bf16: float, expected: torch.dtype) -> None:
    lines: list[str] = []
    seen: list[bool] = []
    assert choose_precision(clock(fp32, bf16, seen), device=CPU, report=lines.append) == expected
    assert len(lines) == 1 and ("bf16" if expected == torch.bfloat16 else "fp32") in lines[0].split("(")[0]
    assert seen == [False, False, True, True]


def test_emulated_bf16_is_given_up_after_one_step() -> None:
    seen: list[bool] = []
    assert choose_precision(clock(0.005, 0.05, seen), device=CPU, report=lambda _: None) == torch.float32
    assert seen.count(True) == 1


def test_a_request_is_not_probed() -> None:
    assert choose_precision(lambda: pytest.fail("probed"), device=CPU, requested="bf16") == torch.bfloat16


@pytest.mark.parametrize("requested", ["fp16", "int3"])
def test_formats_that_cannot_train_here(requested: str) -> None:
    with pytest.raises(ConfigError):
        choose_precision(lambda: None, device=CPU, requested=requested)


def test_a_device_is_parsed_or_told() -> None:
    assert parse_device("cpu") == parse_device(CPU) == CPU
    assert parse_device(None) == best_device()
    for name in ("foo", "cuda:99", "hpu"):
        with pytest.raises(ConfigError, match=f"device '{name}' is not available"):
            parse_device(name)
