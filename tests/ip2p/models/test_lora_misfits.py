"""LoRA files that do not fit, or are damaged, are refused whole."""

from pathlib import Path

import pytest
import torch
from lora_files import ByHand, kohya_sd, kohya_sdxl
from safetensors.torch import save_file
from torch import Tensor

from ip2p.errors import ModelError
from ip2p.models.backbone import load_backbone
from ip2p.models.lora import Lora, merge_loras


def spoil(weights: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    """A file of kohya's with one thing wrong."""
    first = next(iter(weights)).rpartition(".lora")[0]
    up = f"{first}.lora_up.weight"
    return {
        "a module that the model lacks": weights | {f"{first}_z.lora_up.weight": torch.zeros(2, 2)},
        "another trainer's key": weights | {f"{first}.oft_blocks": torch.zeros(2, 2)},
        "words of pivotal tuning": weights | {"bundle_emb.cat.string_to_param.*": torch.zeros(1, 16)},
        "half of a pair": {key: value for key, value in weights.items() if key != up},
        "another width": weights | {up: torch.zeros(24, 2)},
        "another rank": weights | {up: torch.zeros(16, 3)},
        "not finite": weights | {up: torch.full((16, 2), torch.inf)},
        "alpha of no number": weights | {f"{first}.alpha": torch.tensor(torch.nan)},
        "two kinds": weights | {f"{first}.lokr_w1": torch.zeros(4, 4)},
        "lengths of another shape": weights | {f"{first}.dora_scale": torch.ones(7, 1)},
        "a bias where there is none": weights | {f"{first}.lora_B.bias": torch.ones(16)},
        "an empty file": {},
        "rank 0": weights | {up: torch.zeros(16, 0), f"{first}.lora_down.weight": torch.zeros(0, 16)},
        "no alpha": weights | {f"{first}.alpha": torch.zeros(0)},
        "two alphas": weights | {f"{first}.alpha": torch.ones(2)},
        "integers": weights | {up: torch.ones(16, 2, dtype=torch.int8)},
        "complex numbers": weights | {up: torch.ones(16, 2, dtype=torch.complex64)},
        "float8 of no number": weights | {up: torch.full((16, 2), torch.nan).to(torch.float8_e4m3fn)},
        "too large for fp32": weights | {up: torch.full((16, 2), 1e300, dtype=torch.float64)},
        "infinite alpha": weights | {f"{first}.alpha": torch.tensor(torch.inf)},
        "huge alpha": weights | {f"{first}.alpha": torch.tensor(3e38)},
    }[how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("a module that the model lacks", "1 of 18 weights of the LoRA .* do not fit .*no module of the model"),
        ("another trainer's key", "1 of 18 weights .*oft_blocks: its kind is not known"),
        ("words of pivotal tuning", "1 of 18 weights .*bundle_emb"),
        ("half of a pair", "2 of 16 weights .*lacks its up"),
        ("another width", "3 of 17 weights .*the module is .16, 16."),
        ("another rank", "3 of 17 weights"),
        ("not finite", "1 of 17 weights .*not finite"),
        ("alpha of no number", "1 of 17 weights .*alpha: it is not finite"),
        ("two kinds", "4 of 18 weights"),
        ("lengths of another shape", "4 of 18 weights"),
        ("a bias where there is none", "4 of 18 weights"),
        ("an empty file", "0 of 0 weights .*the file is empty"),
        ("rank 0", r"2 of 17 weights .*lora_down.weight: it is empty, of shape \(0, 16\)"),
        ("no alpha", "1 of 17 weights .*alpha: it is empty"),
        ("two alphas", "1 of 17 weights .*alpha: it is not one number"),
        ("integers", "1 of 17 weights .*lora_up.weight: it has numbers of torch.int8"),
        ("complex numbers", "1 of 17 weights .*lora_up.weight: it has numbers of torch.complex64"),
        ("float8 of no number", "1 of 17 weights .*lora_up.weight: it is not finite"),
        ("too large for fp32", "1 of 17 weights .*lora_up.weight: it is not finite"),
        ("infinite alpha", "1 of 17 weights .*alpha: it is not finite"),
        ("huge alpha", "at scale 1 makes the weights of 1 of 6 modules of .* infinite, such as unet.down_blocks.1"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_whole(
    how: str, message: str, sd_editor_folder: Path, tmp_path: Path
) -> None:
    backbone, before = load_backbone(sd_editor_folder), load_backbone(sd_editor_folder)
    file = ByHand(before, tmp_path / "lora.safetensors")
    kohya_sd(file)
    save_file(spoil(file.keys, how), file.path)
    with pytest.raises(ModelError, match=message) as refused:
        merge_loras(backbone, [Lora(file.path)])
    assert str(file.path) in str(refused.value) and "\n" not in str(refused.value)
    for network in ("unet", "text_encoder"):
        weights = getattr(backbone, network).state_dict()
        old = getattr(before, network).state_dict()
        assert all(torch.equal(weight, weights[name]) for name, weight in old.items())


def test_a_file_of_another_family_is_refused_with_how_many(
    sd_editor_folder: Path, xl_editor_folder: Path, tmp_path: Path
) -> None:
    file = ByHand(load_backbone(xl_editor_folder), tmp_path / "xl.safetensors")
    kohya_sdxl(file)
    save_file(file.keys, file.path)
    with pytest.raises(ModelError, match=r"\d+ of 33 weights .* do not fit .*made for a model of this family"):
        merge_loras(load_backbone(sd_editor_folder), [Lora(file.path)])
    (tmp_path / "torn.safetensors").write_bytes(file.path.read_bytes()[:100])
    with pytest.raises(ModelError, match="torn.safetensors is damaged"):
        merge_loras(load_backbone(sd_editor_folder), [Lora(tmp_path / "torn.safetensors")])


def test_a_pickle_is_read_with_leave(sd_editor_folder: Path, tmp_path: Path) -> None:
    file = ByHand(load_backbone(sd_editor_folder), tmp_path / "lora.pt")
    kohya_sd(file)
    torch.save(file.keys, file.path)
    with pytest.raises(ModelError, match="a pickle.*allow_pickle"):
        merge_loras(load_backbone(sd_editor_folder), [Lora(file.path)])
    merge_loras(load_backbone(sd_editor_folder), [Lora(file.path)], allow_pickle=True)
