"""Settings of a build: builds of earlier versions go on, and their finished shards are not made again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ip2p.config import load_config
from ip2p.data_gen.build_folder import BuildFolder, hash_origins
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.report.results import find_provenance
from ip2p.data_gen.stages import Stages
from ip2p.errors import ConfigError
from ip2p.models.backbone import load_backbone

ADDED = (
    *("triples.reply_tokens", "triples.max_reasoning_tokens", "triples.reasoning_effort", "triples.extra_body"),
    *("triples.turns", "triples.long_form", "triples.file", "triples.seeds", "triples.system"),
    *("triples.skip_unanswered", "pairs.text_every", "pairs.guidance_start", "pairs.guidance_stop"),
    *("pairs.enough", "pairs.give_up_below", "pairs.early_at", "pairs.early_margin", "pairs.early_audit"),
    *("pairs.store_refused",),
    *("pairs.tree", "pairs.threads", "pairs.early_decoder", "pairs.vae", "pairs.loras", "pairs.negative_prompt"),
    *("pairs.per_kind",),
    *("scores.dino", "filter.layout_max", "filter.changed_min", "filter.changed_max", "filter.shift_max"),
)
"""Settings that earlier versions did not have."""


def test_settings_that_are_not_given_leave_the_fingerprint_of_earlier_versions() -> None:
    asks = DatasetConfig.model_validate({"triples": {"writer": "openai", "model": "gpt-5-mini"}})
    folders = [BuildFolder(config, {}) for config in (DatasetConfig(), asks)]
    assert [each.fingerprint("candidates") for each in folders] == ["7a0cffb9d9e2c23b", "9a8634ad13225d83"]
    assert [each.fingerprint("packed") for each in folders] == ["7b4426e36af0ac1a", "baf1d09dc9303379"]


def test_a_judge_changes_nothing_but_what_the_filter_decides() -> None:
    """So builds from before there was one are filtered by it, and builds with one are filtered without it."""

    def fingerprints(**scores: object) -> list[str]:
        given = {
            "out": "nowhere", "scores": scores, "pairs": {"enough": 2, "store_refused": 0.1},
            "filter": {"per_kind": {"season": {"image": 0.3}}},
        }  # fmt: skip
        folder = BuildFolder(DatasetConfig.model_validate(given), {})
        return [folder.fingerprint(stage) for stage in ("scores", "filtered", "packed")]

    earlier = ["6541ae42adcd74ff", "6e73032b7cdf0e4e", "227f28a196082d76"]
    assert fingerprints() == fingerprints(judge_max_usd=3, judge_parallel=2) == earlier
    judged = fingerprints(judge="m")
    assert not set(judged[1:]) & set(earlier)
    assert judged == fingerprints(judge="m", judge_base_url="http://localhost:1/v1", judge_max_usd=3)
    assert judged[1] != fingerprints(judge="other")[1]


def test_settings_that_change_answers_change_the_fingerprint_and_limits_do_not() -> None:
    def made_with(**settings: object) -> str:
        return BuildFolder(DatasetConfig.model_validate({"triples": settings}), {}).fingerprint("triples")

    assert made_with() == made_with(reply_tokens=400, max_reasoning_tokens=0, skip_unanswered=True)
    assert len({made_with(), made_with(reasoning_effort="low"), made_with(extra_body={"top_k": 3})}) == 3


def test_a_build_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    config = DatasetConfig(out=str(tmp_path))
    with BuildFolder(config, {}).claim():
        pass
    stored = json.loads((tmp_path / "build.json").read_text())
    earlier = {key: value for key, value in stored.items() if key not in ADDED}
    (tmp_path / "build.json").write_text(json.dumps(earlier))
    for stage in ("captions", "triples", "candidates"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "shard-00000.json").touch()
    with BuildFolder(config, {}).claim():
        pass
    other = DatasetConfig.model_validate({"out": str(tmp_path), "triples": {"reasoning_effort": "low"}})
    with pytest.raises(ConfigError, match="reasoning_effort was None"), BuildFolder(other, {}).claim():
        pass


def test_autoencoder_and_lora_belong_to_the_base_model(
    make_config: Callable[..., DatasetConfig], sd_base_folder: Path, base_folder: Path, tmp_path: Path
) -> None:
    """They are loaded with it, and their contents are part of the fingerprint."""
    own, lora = load_backbone(sd_base_folder), tmp_path / "style.safetensors"
    name, query = next((name, each) for name, each in own.unet.named_modules() if name.endswith("attn1.to_q"))
    torch.manual_seed(2)
    shapes = {"lora_A": (2, query.in_features), "lora_B": (query.out_features, 2)}
    save_file({f"unet.{name}.{role}.weight": torch.randn(shape) for role, shape in shapes.items()}, lora)
    shutil.copytree(sd_base_folder / "vae", tmp_path / "vae")
    given = f"pairs.vae={tmp_path / 'vae'}", f"pairs.loras=['{lora}:0.5']", f"pairs.early_decoder={base_folder / 'vae'}"
    config = make_config(f"pairs.model={sd_base_folder}", *given)
    folder = BuildFolder(config, hash_origins(config))
    with folder.claim():
        loaded = Stages(folder, print).maker.backbone
    assert loaded.options["vae"] == str(tmp_path / "vae") and loaded.options["lora"] == [f"{lora}:0.5"]
    assert not torch.equal(loaded.unet.get_submodule(name).weight, query.weight)
    models = {"pairs.model", "pairs.vae", "pairs.early_decoder", f"pairs.loras {lora}:0.5"}
    revisions = folder.makers()["revisions"]
    assert revisions.keys() == models and len(set(revisions.values())) == 4 and "unknown" not in revisions.values()
    found = {folder.fingerprint("candidates")}
    for file in (lora, tmp_path / "vae" / "config.json", tmp_path / "adapter_config.json"):
        file.write_bytes((file.read_bytes() if file.exists() else b"{}") + b" ")
        found.add(BuildFolder(config, hash_origins(config)).fingerprint("candidates"))
    plain = make_config(f"pairs.model={sd_base_folder}")
    assert hash_origins(plain).keys() == {"pairs.model (its weights)", "scores.clip (its weights)"} | {
        "captions.source (its contents)"
    }
    assert len(found) == 4 and not [key for key in hash_origins(config, only_captions=True) if "pairs" in key]


def test_provenance_has_what_was_given_for_the_pairs_and_no_more(tmp_path: Path) -> None:
    given = {
        "vae": "a/b", "loras": ["x.safetensors:1"], "negative_prompt": "blurry", "guidance_start": 0.1,
        "guidance_stop": 0.8, "early_at": 0.4, "early_decoder": "c/d", "size": 256, "precision": "bf16",
    }  # fmt: skip
    found = []
    for number, pairs in enumerate((given, {})):
        folder = BuildFolder(DatasetConfig.model_validate({"out": str(tmp_path / str(number)), "pairs": pairs}), {})
        with folder.claim():
            found.append(find_provenance(folder))
    assert found[0] == found[0] | given and found[0]["share"] == found[1]["share"] == "attention"
    assert not found[1].keys() & given.keys()


@pytest.mark.parametrize(
    ("value", "message"),
    [("{model: other}", "model is ip2p's own"), ("{day: 2026-01-01}", "cannot be sent as JSON"), ("[1]", "dictionary")],
)
def test_arguments_that_cannot_be_sent_are_told(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(DatasetConfig, None, [f"triples.extra_body={value}"])


def test_arguments_may_be_given_one_by_one() -> None:
    config = load_config(DatasetConfig, None, ["triples.extra_body.chat_template_kwargs.enable_thinking=false"])
    assert config.triples.extra_body == {"chat_template_kwargs": {"enable_thinking": False}}


def test_advice_on_changed_settings_keeps_paid_answers(tmp_path: Path) -> None:
    config = DatasetConfig(out=str(tmp_path / "out"))
    with BuildFolder(config, {}).claim():
        pass
    (tmp_path / "out" / "captions").mkdir()
    (tmp_path / "out" / "captions" / "shard-00000.json").touch()
    other = config.model_copy(update={"seed": 3})
    with pytest.raises(ConfigError, match=r"Give another folder by out=\.\.\., or"), BuildFolder(other, {}).claim():
        pass
    (tmp_path / "out" / "asked.jsonl").touch()
    with (
        pytest.raises(ConfigError, match=r"out=\.\.\. with triples\.cache=\S+, so that"),
        BuildFolder(other, {}).claim(),
    ):
        pass


def test_nothing_of_somebody_elses_is_removed_from_the_leases(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    mine = [tmp_path / "leases" / name for name in ("shard-house-contract.pdf", "shard-00001")]
    for path in mine:
        path.write_text("mine")
    for _ in range(2):
        with BuildFolder(DatasetConfig(out=str(tmp_path)), {}).claim():
            pass
    assert [path.read_text() for path in mine] == ["mine", "mine"]
