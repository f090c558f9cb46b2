"""Kept latents: equal to those encoded anew, shared, resumed, and never those of another picture, crop or model."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset, concatenate_datasets
from diffusers import AutoencoderKL
from PIL import Image

from ip2p.diffusion.noise import ForwardProcess
from ip2p.errors import DataError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.widen import widen_conv_in
from ip2p.seeding import generator
from ip2p.train import latent_cache
from ip2p.train.batches import Batches
from ip2p.train.latent_cache import CacheDtype
from ip2p.train.objective import EditingModel, draw_randomness, editing_loss, make_training_batch
from ip2p.train.pairs import open_pairs
from ip2p.train.ranks import Ranks
from ip2p.train.tensor_shards import TensorShards


@pytest.fixture(scope="module")
def backbone(tiny_base: Path) -> Backbone:
    """The tiny base model with an autoencoder that has a posterior."""
    made = load_backbone(tiny_base)
    torch.manual_seed(1)
    made.vae = AutoencoderKL(
        block_out_channels=(8, 8, 8), latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    ).eval()  # fmt: skip
    return made


def batches_of(pairs: Dataset, backbone: Backbone, *, flip: bool = True, size: int = 32) -> Batches:
    return Batches(pairs, backbone, size=size, seed=1, flip=flip)


def keep(batches: Batches, folder: Path, *, dtype: CacheDtype = "fp32", ranks: Ranks | None = None) -> list[str]:
    said: list[str] = []
    batches.cache(folder, dtype=dtype, ranks=ranks or Ranks(), say=said.append)
    return said


def encoded(batches: Batches, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the rows that are encoded from now on."""
    rows: list[int] = []
    pictures = Batches.pictures

    def seen(self: Batches, row: int, *rest: object) -> tuple[Image.Image, Image.Image]:
        rows.append(row)
        return pictures(self, row, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Batches, "pictures", seen)
    return rows


@pytest.mark.parametrize("flip", [False, True])
def test_kept_latents_are_those_of_the_pictures(
    pairs_folder: Path, backbone: Backbone, tmp_path: Path, flip: bool
) -> None:
    pairs = open_pairs(pairs_folder).train
    kept, plain = (batches_of(pairs, backbone, flip=flip) for _ in range(2))
    said = keep(kept, tmp_path)
    assert "20 pairs" in said[0] and str(tmp_path) in said[0] and "MB of fp32" in said[0]
    for taken in (range(8), range(17, 25)):
        (texts, latents), (expected_texts, expected) = kept.at(taken), plain.at(taken)
        assert texts == expected_texts and latents.std.all()
        for part, whole in zip(latents, expected, strict=True):
            torch.testing.assert_close(part, whole, atol=1e-6, rtol=1e-5)


def loss_of(batches: Batches, backbone: Backbone, model: EditingModel, taken: range) -> float:
    texts, latents = batches.at(taken)
    process = ForwardProcess(backbone.scheduler)
    generators = [generator(0, "train", str(position)) for position in taken]
    draws = draw_randomness(generators, (4, 8, 8), process.timesteps)
    batch = make_training_batch(texts, latents, draws, drop=0.05, tokenize=backbone.tokenize)
    return float(editing_loss(model, process, batch).mean())


@pytest.mark.parametrize(("dtype", "bound"), [("fp32", 1e-6), ("fp16", 1e-4)])
def test_the_loss_from_kept_latents_is_that_without(
    pairs_folder: Path, tiny_base: Path, backbone: Backbone, tmp_path: Path, dtype: CacheDtype, bound: float
) -> None:
    pairs = open_pairs(pairs_folder).train
    unet = widen_conv_in(load_backbone(tiny_base).unet)
    torch.manual_seed(0)
    torch.nn.init.normal_(unet.conv_in.weight, std=0.2)  # else the original would not matter
    model = EditingModel(unet, backbone.text_encoder)
    kept, plain = (batches_of(pairs, backbone) for _ in range(2))
    keep(kept, tmp_path, dtype=dtype)
    with torch.no_grad():
        differences = [
            abs(loss_of(kept, backbone, model, taken) - loss_of(plain, backbone, model, taken))
            for taken in (range(8), range(8, 16), range(16, 24))
        ]
    assert max(differences) < bound


def test_pictures_are_encoded_once_for_all_runs(
    pairs_folder: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = open_pairs(pairs_folder).train
    keep(batches_of(pairs, backbone), tmp_path)
    again = batches_of(pairs, backbone)
    rows = encoded(again, monkeypatch)
    keep(again, tmp_path)
    again.at(range(8))
    assert rows == []


def test_stale_latents_are_not_used(
    pairs_folder: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another autoencoder, another size, other pictures, mirrored ones: each is encoded anew."""
    pairs = open_pairs(pairs_folder).train
    keep(batches_of(pairs, backbone, flip=False), tmp_path)
    rows = encoded(batches_of(pairs, backbone), monkeypatch)
    keep(batches_of(pairs, backbone, flip=False, size=16), tmp_path)
    assert len(rows) == 20
    keep(batches_of(pairs, backbone, flip=True), tmp_path)
    assert len(rows) == 60
    changed = concatenate_datasets([pairs.select(range(19)), pairs.select([3])])
    keep(batches_of(changed, backbone, flip=False), tmp_path)
    assert len(rows) == 80
    with torch.no_grad():
        backbone.vae.encoder.conv_in.bias[0] += 1
    keep(batches_of(pairs, backbone, flip=False), tmp_path)
    assert len(rows) == 100
    with torch.no_grad():
        backbone.vae.encoder.conv_in.bias[0] -= 1


def test_a_damaged_shard_is_made_again(pairs_folder: Path, backbone: Backbone, tmp_path: Path) -> None:
    pairs = open_pairs(pairs_folder).train
    first, second = batches_of(pairs, backbone), batches_of(pairs, backbone)
    keep(first, tmp_path)
    expected = [part.clone() for part in first.at(range(8))[1]]
    (shard,) = tmp_path.rglob("*.safetensors")
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.unlink()  # and not written in place: the first one still maps it
    shard.write_bytes(bytes(data))
    keep(second, tmp_path)
    assert all(torch.equal(*both) for both in zip(second.at(range(8))[1], expected, strict=True))


def test_pairs_that_are_not_square_do_not_switch_it_off_for_others(
    tmp_path: Path, backbone: Backbone, make_pairs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    square = open_pairs(make_pairs(tmp_path / "square", 8)).train
    wide = open_pairs(make_pairs(tmp_path / "wide", 4, size=(64, 40))).train
    pairs = concatenate_datasets([square, wide])
    kept, plain = (batches_of(pairs, backbone) for _ in range(2))
    said = keep(kept, tmp_path / "latents")
    assert said[-1].startswith("3 pairs get another crop each time")
    (_, latents), (_, expected) = kept.at(range(20)), plain.at(range(20))
    for part, whole in zip(latents, expected, strict=True):
        torch.testing.assert_close(part, whole, atol=1e-6, rtol=1e-5)
    rows = encoded(kept, monkeypatch)
    kept.at(range(20, 30))
    assert rows and min(rows) >= 7


def test_square_pairs_that_get_another_shape_do_not_meet_square_latents(
    pairs_folder: Path, backbone: Backbone, tmp_path: Path
) -> None:
    pairs = open_pairs(pairs_folder).train
    keep(batches_of(pairs, backbone), tmp_path)
    buckets = Batches(pairs, backbone, size=32, seed=1, flip=True, shapes=[(32, 24)] * len(pairs))
    assert keep(buckets, tmp_path)[-1].startswith("20 pairs get another crop")
    assert buckets.at(range(4))[1].mean.shape == (4, 4, 6, 8)


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


def test_after_a_kill_only_what_is_missing_is_encoded(
    pairs_folder: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_cache, "SHARD", 4)
    pairs = open_pairs(pairs_folder).train
    write, count = TensorShards.write, 0

    def dies(self: TensorShards, name: str, tensors: dict[str, torch.Tensor], *, rows: int) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise Killed
        write(self, name, tensors, rows=rows)

    monkeypatch.setattr(TensorShards, "write", dies)
    with pytest.raises(Killed):
        keep(batches_of(pairs, backbone, flip=False), tmp_path)
    batches = batches_of(pairs, backbone, flip=False)
    rows = encoded(batches, monkeypatch)
    said = keep(batches, tmp_path)
    assert sorted(rows) == list(range(12, 20)) and "3 of 5 shards are there" in said


def test_a_data_set_that_grows_or_leaves_does_not_move_the_others(
    pairs_folder: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_cache, "SHARD", 4)
    pairs = open_pairs(pairs_folder).train
    both = Batches(pairs, backbone, size=32, seed=1, flip=False, starts=[0, 6])
    keep(both, tmp_path)
    assert both._cache and both._cache.starts == [0, 4, 6, 10, 14, 18]
    fresh = batches_of(pairs, backbone, flip=False).at(range(20))[1]
    torch.testing.assert_close(both.at(range(20))[1], fresh, rtol=0, atol=0)
    later = Batches(pairs.select([*range(6, 20), *range(7)]), backbone, size=32, seed=1, flip=False, starts=[0, 14])
    rows = encoded(later, monkeypatch)
    keep(later, tmp_path)
    assert sorted(rows) == [18, 19, 20]


def test_each_rank_encodes_its_share(
    pairs_folder: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_cache, "SHARD", 4)
    pairs = open_pairs(pairs_folder).train
    alone = batches_of(pairs, backbone)
    keep(alone, tmp_path / "alone")
    shares = [range(rank, 5, 2) for rank in (0, 1)]
    assert alone._cache
    names = {rank: [(alone._cache.names[index], [0, 1, 2, 3]) for index in share] for rank, share in enumerate(shares)}
    monkeypatch.setattr("ip2p.train.ranks.gather_object", lambda own: [names[0], names[1]])
    monkeypatch.setattr(TensorShards, "fill", share_only)
    rows = encoded(alone, monkeypatch)
    both = [batches_of(pairs, backbone) for _ in range(2)]
    for rank, batches in enumerate(both):
        rows.clear()
        keep(batches, tmp_path / "both", ranks=Ranks(rank, 2))
        assert sorted({row // 4 for row in rows}) == list(shares[rank])
    expected = alone.at(range(20))[1]
    assert all(torch.equal(*parts) for parts in zip(both[0].at(range(20))[1], expected, strict=True))


def share_only(
    self: TensorShards, names: list[str], make: Callable[[int], None], *, rank: int, ranks: int, say: object
) -> None:
    """Make the share of a rank, without waiting for another one, which comes later in this test."""
    for index in range(rank, len(names), ranks):
        make(index)


def test_a_folder_that_cannot_be_made_is_told(pairs_folder: Path, backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("somebody's")
    with pytest.raises(DataError, match=r"file/.* cannot be made .*cache_folder"):
        keep(batches_of(open_pairs(pairs_folder).train, backbone), tmp_path / "file" / "latents")
    assert (tmp_path / "file").read_text() == "somebody's"


def test_too_little_space_is_told_before_anything_is_encoded(
    pairs_folder: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = batches_of(open_pairs(pairs_folder).train, backbone)
    rows = encoded(batches, monkeypatch)
    monkeypatch.setattr("ip2p.train.latent_cache.shutil.disk_usage", lambda _: SimpleNamespace(free=9))
    with pytest.raises(DataError, match="GB more, and 0.0 GB are free.*cache_folder"):
        keep(batches, tmp_path)
    assert not rows
