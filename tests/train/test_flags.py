"""Commands that were written for diffusers' train_instruct_pix2pix.py."""

import argparse
from pathlib import Path

import pytest
from datasets import Dataset, Features, Image, Value
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image as Pictures

from ip2p.config import load_config
from ip2p.errors import ConfigError
from ip2p.train import flags
from ip2p.train.config import FinetuneConfig
from ip2p.train.finetune import main
from ip2p.train.flags import Translated, add_flags, refuse_unknown, translate

README = """
    --pretrained_model_name_or_path={model} --dataset_name={data} --enable_xformers_memory_efficient_attention
    --resolution=256 --random_flip --train_batch_size=4 --gradient_accumulation_steps=4 --gradient_checkpointing
    --max_train_steps=15000 --checkpointing_steps=5000 --checkpoints_total_limit=1 --learning_rate=5e-05
    --max_grad_norm=1 --lr_warmup_steps=0 --conditioning_dropout_prob=0.05 --mixed_precision=fp16 --seed=42
    --push_to_hub
"""
ALL = """adam_beta1 adam_beta2 adam_epsilon adam_weight_decay allow_tf32 cache_dir center_crop checkpointing_steps
checkpoints_total_limit conditioning_dropout_prob dataloader_num_workers dataset_config_name dataset_name
edit_prompt_column edited_image_column enable_xformers_memory_efficient_attention gradient_accumulation_steps
gradient_checkpointing hub_model_id hub_token learning_rate local_rank logging_dir lr_scheduler lr_warmup_steps
max_grad_norm max_train_samples max_train_steps mixed_precision non_ema_revision num_train_epochs num_validation_images
original_image_column output_dir pretrained_model_name_or_path push_to_hub random_flip report_to resolution
resume_from_checkpoint revision scale_lr seed train_batch_size train_data_dir use_8bit_adam use_ema val_image_url
validation_epochs validation_prompt variant"""
"""Every flag of that script."""


def parse(command: str) -> Translated | None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser)
    parsed, rest = parser.parse_known_args(command.split())
    refuse_unknown(rest, parser)
    return translate(vars(parsed), environment={"WORLD_SIZE": "2"})


def config_of(command: str) -> FinetuneConfig:
    translated = parse(command)
    assert translated
    return load_config(FinetuneConfig, None, sections=translated.settings)


def test_the_command_of_the_readme_is_this_config() -> None:
    config = config_of(README.format(model="sd", data="fusing/pairs"))
    assert (config.base, config.dataset, config.size, config.flip, config.seed) == ("sd", "fusing/pairs", 256, True, 42)
    assert (config.batch, config.accumulation, config.steps, config.epochs) == (4, 4, 15000, None)
    assert (config.checkpoint_every, config.keep_checkpoints, config.max_grad_norm) == (5000, 1, 1.0)
    assert (config.learning_rate, config.schedule, config.warmup, config.drop) == (5e-5, "constant", 0, 0.05)
    assert config.ema_decay == 0 and config.push_to_hub == "instruct-pix2pix-model"
    assert not config.train_text_encoder and config.optimizer == "adamw"


@pytest.mark.parametrize("name", ALL.split())
def test_every_flag_is_honoured_told_or_refused_by_name(name: str) -> None:
    plain = parse("--seed=1")
    switch = name in (*flags.SWITCHES, *flags.OTHER_SWITCHES)
    values = {"lr_scheduler": "cosine", "mixed_precision": "bf16", "resume_from_checkpoint": "latest"}
    value = values.get(name, str(flags.FIXED.get(name, "7")))
    try:
        given = parse(f"--{name}" if switch else f"--{name}={value}")
    except ConfigError as error:
        assert f"--{name} cannot be honoured" in str(error)
        return
    assert plain and given
    del plain.settings["seed"]
    matters = (given.settings, given.said) != (plain.settings, plain.said)
    assert matters or name in ("lr_warmup_steps", "hub_model_id", *flags.FIXED)  # constant, not asked to push, as ours


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--learning_rates=1", r"no flag --learning_rates\. Did you mean --learning_rate\?"),
        ("--learning-rate=1", r"no flag --learning-rate\. Did you mean --learning_rate\?"),
        ("--qwertz", r"no flag --qwertz\. Give settings as key=value"),
        ("--adam_beta1=0.5", r"--adam_beta1=0\.5 cannot be honoured: AdamW has 0\.9"),
        ("--lr_scheduler=polynomial", r"lr_scheduler=polynomial .*Give one of constant"),
        ("--resume_from_checkpoint=checkpoint-500", r"is not the newest checkpoint .*goes on from its newest"),
        ("--adam_epsilon=tiny", r"--adam_epsilon=tiny is no number"),
        ("--scale_lr --train_batch_size=four", r"--train_batch_size=four is no number"),
        ("--hub_token=hf_secret", r"--hub_token cannot be honoured\. Log in"),
    ],
)
def test_what_cannot_be_honoured_is_refused(command: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(command)
    assert "hf_secret" not in str(caught.value)


def test_no_flag_leaves_the_config_alone_and_a_file_keeps_its_settings() -> None:
    assert parse("") is None
    given = translate({"seed": "3", "use_ema": True, "config": "x"}, with_defaults=False)
    assert given == Translated({"seed": "3", "ema_decay": 0.9999}, [])


def test_what_flags_alone_do_not_say_is_not_guessed() -> None:
    """The samples in a step, and the folder, may be those of a config file or of key=value."""
    with pytest.raises(ConfigError, match="scale_lr cannot be honoured beside batch"):
        translate({"scale_lr": True}, overrides=["batch=3"])
    for flag in ("scale_lr", "push_to_hub"):
        with pytest.raises(ConfigError, match=f"--{flag}.* beside --config"):
            translate({flag: True}, with_defaults=False)


def test_warm_up_averages_and_scaled_learning_rates_are_that_scripts() -> None:
    assert config_of("--lr_scheduler=constant_with_warmup --num_train_epochs=3").warmup == 500
    assert config_of("--lr_scheduler=constant --lr_warmup_steps=9").warmup == 0
    assert config_of("--num_train_epochs=3").epochs == 3 and config_of("--use_ema").ema_decay == 0.9999
    scaled = "--scale_lr --learning_rate=1e-5 --train_batch_size=3 --gradient_accumulation_steps=4"
    assert config_of(scaled).learning_rate == pytest.approx(24e-5)  # on two processes


def test_columns_are_named_by_their_flags() -> None:
    names = "--original_image_column=a --edit_prompt_column=b --edited_image_column=c"
    translated = parse(names)
    assert translated
    assert translated.settings["columns"] == {"original": "a", "instruction": "b", "edited": "c"}


def write_default_columns(folder: Path) -> Path:
    """Write pairs in the default columns of that script."""
    features = Features({"input_image": Image(), "edit_prompt": Value("string"), "edited_image": Image()})
    rows = []
    for index in range(8):
        original = Pictures.linear_gradient("L").resize((48, 40)).convert("RGB").rotate(10 * index)
        edited = original.point(lambda value: 255 - value)
        rows.append({"input_image": original, "edit_prompt": "invert it", "edited_image": edited})
    folder.mkdir()
    Dataset.from_list(rows, features=features).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


@pytest.mark.slow
def test_the_command_of_the_readme_trains_on_its_default_columns(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")  # as by `accelerate launch --mixed_precision="fp16"`
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    command = README.format(model=tiny_base, data=write_default_columns(tmp_path / "pairs")).split()
    assert main([*command, "steps=1", "accumulation=1", "threads=1", "size=64"]) == 0
    said = capsys.readouterr().out
    for words in ("fp16 needs a GPU", "xformers needs a GPU", "not uploaded as instruct-pix2pix-model"):
        assert words in said
    editor = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "instruct-pix2pix-model" / "editor")
    assert editor.unet.config.in_channels == 8
