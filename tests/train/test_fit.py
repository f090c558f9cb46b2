"""The fine-tuning run: it learns, resumes exactly, stops on signals, refuses bad input, and writes an editor."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import StableDiffusionInstructPix2PixPipeline
from pair_files import make_rows, table
from safetensors.torch import load_file

import ip2p.train.fit as training
import ip2p.train.validation as validation
from ip2p.config import load_config
from ip2p.errors import ConfigError, Ip2pError, TrainingError
from ip2p.models.backbone import load_backbone
from ip2p.models.widen import suit_attention
from ip2p.shards import hash_file
from ip2p.train.config import FinetuneConfig
from ip2p.train.finetune import main
from ip2p.train.held_out import HeldOutCurve
from ip2p.train.metrics import read_metrics

LEARNT = ("step", "samples", "loss", "gradient_norm", "learning_rate")


@pytest.fixture
def settings(tiny_base: Path, pairs_folder: Path, tmp_path: Path) -> list[str]:
    """Return the settings of a run of a few seconds."""
    chosen = {
        "base": tiny_base, "dataset": pairs_folder, "out": tmp_path / "run", "steps": 6, "batch": 2, "accumulation": 2,
        "minutes": "null", "precision": "fp32", "warmup": 2, "checkpoint_every": 2, "validate_every": 100, "size": 32,
        "flip": "true", "keep_checkpoints": 9, "threads": 1, "cache_folder": tmp_path / "latents",
    }  # fmt: skip
    return [f"{key}={value}" for key, value in chosen.items()]


def fit(settings: list[str], *more: str) -> training.RunResult:
    AcceleratorState._reset_state(reset_partial_state=True)
    return training.fit(load_config(FinetuneConfig, "storybook_finetune.yaml", [*settings, *more]), say=lambda _: None)


def curve(run: Path) -> list[tuple[float, ...]]:
    return [tuple(row[key] for key in LEARNT) for row in read_metrics(run / "metrics.jsonl") if "loss" in row]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {
        f"{file.stem}/{key}": value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()
    }


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("optimizer=muon",),
        ("optimizer=adamw",),
        ("optimizer=adamw", "train_text_encoder=false", "cache_latents=false", "attention=sdpa"),
        ("optimizer=adamw", "train_text_encoder=false", "gradient_checkpointing=true"),
    ],
)
def test_killed_and_started_again_equals_never_stopped(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    fit(settings, *more)
    again = [f"out={tmp_path / 'again'}", *more]
    step = training.Run.step

    def dies(self: training.Run) -> training.StepResult:
        if self.state.step == 3:  # after the checkpoint of step 2; step 3 is done and lost
            raise Killed
        return step(self)

    monkeypatch.setattr(training.Run, "step", dies)
    with pytest.raises(Killed):
        fit(settings, *again)
    monkeypatch.setattr(training.Run, "step", step)
    fit(settings, *again)
    assert curve(tmp_path / "run") == curve(tmp_path / "again") and len(curve(tmp_path / "run")) == 6
    one, two = weights(tmp_path / "run", 6), weights(tmp_path / "again", 6)
    trains_text = "train_text_encoder=false" not in more
    assert one.keys() == two.keys() and any(key.startswith("ema-text_encoder") for key in one) == trains_text
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_at_step_zero_the_editor_is_the_base_model(settings: list[str], tiny_base: Path, tmp_path: Path) -> None:
    config = load_config(FinetuneConfig, "storybook_finetune.yaml", settings)
    backbone, model, _ = training.prepare(config, torch.device("cpu"))
    x, t, text = torch.randn(2, 4, 8, 8), torch.tensor([5, 900]), torch.randn(2, 3, 16)
    unet = load_backbone(tiny_base).unet
    suit_attention(unet, torch.device("cpu"))  # to the last bit only by the same kernels
    base = unet(x, t, encoder_hidden_states=text).sample
    assert torch.equal(model.unet(torch.cat([x, torch.randn_like(x)], 1), t, encoder_hidden_states=text).sample, base)


def test_kept_latents_and_embeddings_train_as_those_encoded_anew(settings: list[str], tmp_path: Path) -> None:
    more = ["train_text_encoder=false", "optimizer=adamw", "cache_dtype=fp32"]
    fit(settings, *more, f"out={tmp_path / 'kept'}", "cache_latents=true")
    fit(settings, *more, f"out={tmp_path / 'anew'}", "cache_latents=false")
    kept, anew = ([row[2] for row in curve(tmp_path / name)] for name in ("kept", "anew"))
    assert len(kept) == 6 and max(abs(one - other) for one, other in zip(kept, anew, strict=True)) < 1e-5
    assert len(list((tmp_path / "latents").rglob("*.safetensors"))) == 2


@pytest.mark.slow
def test_two_processes_share_kept_latents_and_train_as_one(settings: list[str], tmp_path: Path) -> None:
    more = ["train_text_encoder=false", "optimizer=adamw", "cache_latents=true", "cache_dtype=fp32", "accumulation=1"]
    fit(settings, *more, "steps=3", "batch=4", f"out={tmp_path / 'one'}", f"cache_folder={tmp_path / 'alone'}")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "ip2p.train.finetune"]
    run = ["--config=storybook_finetune.yaml", *settings, *more, "steps=3", "batch=2", f"out={tmp_path / 'two'}"]
    done = subprocess.run(
        [*command, *run], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    one, two = ([row[:3] for row in curve(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 3 and [row[:2] for row in one] == [row[:2] for row in two]
    assert max(abs(first[2] - second[2]) for first, second in zip(one, two, strict=True)) < 1e-5
    first, second = (held_out(tmp_path / name) for name in ("one", "two"))
    assert first.keys() == second.keys() == {0, 3} and first[0] == second[0] and abs(first[3] - second[3]) < 1e-5
    shards = [sorted(file.name for file in (tmp_path / name).rglob("*.json")) for name in ("alone", "latents")]
    assert shards[0] == shards[1] and shards[0]


def test_checkpointed_activations_give_the_same_gradients(settings: list[str]) -> None:
    gradients = []
    for chosen in ("false", "true"):
        config = load_config(FinetuneConfig, "storybook_finetune.yaml", [*settings, f"gradient_checkpointing={chosen}"])
        _, model, _ = training.prepare(config, torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        x, condition = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))
        model.train()(x, torch.tensor([5, 900]), condition, torch.full((2, 16), 3)).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 50
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)


def test_what_cannot_work_here_is_refused_in_one_line(settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for override, words in [("attention=xformers", "needs an NVIDIA GPU"), ("optimizer=adamw8bit", "bitsandbytes")]:
        assert main([*settings, override]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert words in error[-1] and "Traceback" not in "".join(error)


def test_it_learns_and_leaves_an_editor_with_its_card(settings: list[str], tmp_path: Path) -> None:
    outcome = fit(settings, "steps=40", "learning_rate=0.003", "checkpoint_every=40", "ema_decay=0.9")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    assert [row["step"] for row in rows if "held_out_loss" in row] == [0, 40]
    editor = tmp_path / "run" / "editor"
    assert outcome == training.RunResult(editor, 40, 0)
    assert (tmp_path / "run" / "validation" / "step-00000040.png").is_file()
    assert "data:image/png" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((editor / "ip2p.json").read_text())["resolution"] == 32
    assert "160" in (editor / "README.md").read_text()
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(editor)
    saved, averaged = pipeline.unet.state_dict(), weights(tmp_path / "run", 40)
    for key, value in saved.items():
        torch.testing.assert_close(value.float(), averaged[f"ema-unet/{key}"], atol=1e-3, rtol=1e-3)


def test_an_editor_can_be_trained_further(settings: list[str], tmp_path: Path) -> None:
    fit(settings, "steps=1")
    assert (
        fit(settings, "steps=1", f"base={tmp_path / 'run' / 'editor'}", f"out={tmp_path / 'more'}").editor is not None
    )


def test_a_finished_run_started_again_does_no_step_and_more_steps_go_on(settings: list[str], tmp_path: Path) -> None:
    fit(settings, "steps=2")
    before = curve(tmp_path / "run")
    assert fit(settings, "steps=2").step == 2 and curve(tmp_path / "run") == before
    assert fit(settings, "steps=3").step == 3 and curve(tmp_path / "run")[:2] == before


def test_a_finished_run_started_again_leaves_what_was_edited_in_its_editor(settings: list[str], tmp_path: Path) -> None:
    card = tmp_path / "run" / "editor" / "README.md"
    fit(settings, "steps=1")
    card.write_text("mine")
    fit(settings, "steps=1")
    assert card.read_text() == "mine"
    shutil.rmtree(card.parent)
    for changed in ("steps=1", "text_scale=5.5", "steps=2"):  # a lost editor, other default settings, more steps
        fit(settings, "steps=1", changed)
        assert "mine" not in card.read_text()
        card.write_text("mine")


def test_other_settings_do_not_go_on(settings: list[str]) -> None:
    fit(settings, "steps=1")
    with pytest.raises(ConfigError, match="weight_decay"):
        fit(settings, "steps=2", "weight_decay=0.5")


def test_options_of_the_field_train_together_and_are_saved_with_the_editor(settings: list[str], tmp_path: Path) -> None:
    options = (
        "min_snr_gamma=5", "noise_offset=0.1", "prediction_type=v_prediction", "zero_terminal_snr=true",
        "changed_weight=2", "ema_device=cpu", "resize=[32,40]",
    )  # fmt: skip
    fit(settings, "steps=3", *options)
    before = curve(tmp_path / "run")
    assert fit(settings, "steps=4", *options).editor is not None and curve(tmp_path / "run")[:3] == before
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "run" / "editor")
    saved = pipeline.scheduler.config
    assert saved["rescale_betas_zero_snr"] and saved["timestep_spacing"] == "trailing"
    assert saved["prediction_type"] == "v_prediction"


def test_a_run_older_than_a_setting_goes_on_with_its_default(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its attention is what it was, without a probe."""
    fit(settings, "steps=1")
    folder = tmp_path / "run" / "checkpoints" / "step-00000001"
    state = json.loads((folder / "state.json").read_text())
    del state["attention"]
    for name in ("noise_offset", "columns", "instruction", "candidates", "buckets", "resize", "lora_modules"):
        del state["config"][name]
    (folder / "state.json").write_text(json.dumps(state))
    hashes = json.loads((folder / "COMPLETE.json").read_text())
    hashes["state.json"] = hash_file(folder / "state.json")
    (folder / "COMPLETE.json").write_text(json.dumps(hashes))
    monkeypatch.setattr("ip2p.train.attention.SHORT", 0)
    monkeypatch.setattr("ip2p.train.attention._seconds", pytest.fail)
    assert fit(settings, "steps=2").step == 2
    with pytest.raises(ConfigError, match="noise_offset"):
        fit(settings, "steps=3", "noise_offset=0.1")


def test_the_time_box_ends_a_run_with_an_editor(settings: list[str]) -> None:
    outcome = fit(settings, "steps=100000", "minutes=0.02", "checkpoint_every=1000000", "validate_every=1000000")
    assert outcome.editor is not None and 0 < outcome.step < 100000


def test_checkpoints_come_by_the_clock_too(settings: list[str], tmp_path: Path) -> None:
    fit(settings, "steps=3", "checkpoint_every=1000000", "checkpoint_minutes=0.000001")
    assert [len(weights(tmp_path / "run", step)) > 0 for step in (1, 2, 3)] == [True] * 3
    fit(settings, "steps=5", "checkpoint_every=1000000", "checkpoint_minutes=60")
    assert not weights(tmp_path / "run", 4) and weights(tmp_path / "run", 5)


def test_a_lone_loss_that_is_not_finite_is_left_out_and_many_stop_the_run(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, bad = training.editing_loss, {1}
    calls = iter(range(10_000))

    def sometimes(*arguments: object, **_: object) -> torch.Tensor:
        return real(*arguments) * (float("nan") if next(calls) // 2 in bad else 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "editing_loss", sometimes)
    fit(settings, "steps=3")
    assert all(value.isfinite().all() for value in weights(tmp_path / "run", 3).values())
    bad.update(range(10_000))
    with pytest.raises(TrainingError, match="step 8"):
        fit(settings, "steps=20")
    assert all(value.isfinite().all() for value in weights(tmp_path / "run", 6).values())


@pytest.mark.slow
def test_sigterm_saves_and_exits_143(settings: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ip2p.train.finetune", *settings, "steps=100000", "checkpoint_every=1000000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        for _ in range(600):
            if curve(tmp_path / "run"):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "goes on" in said
    assert list((tmp_path / "run" / "checkpoints").glob("step-*/COMPLETE.json"))


@pytest.mark.parametrize(
    ("override", "words"),
    [("learning_rat=1", "learning_rate"), ("dataset=/nowhere", "make dataset"), ("base=/nowhere", "nowhere")],
)
def test_bad_input_is_one_line_and_exit_code_two(
    settings: list[str], override: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*settings, override]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert words in error[-1] and "Traceback" not in "".join(error)
    with pytest.raises(Ip2pError):
        main(["--debug", *settings, override])


def held_out(run: Path) -> dict[int, float]:
    rows = read_metrics(run / "metrics.jsonl")
    return {int(row["step"]): row["held_out_loss"] for row in rows if "held_out_loss" in row}


def test_the_best_editor_is_kept_and_offered_and_a_rise_ends_the_run(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [
        "learning_rate=0.05",
        "validate_every=1",
        "validation_edits=0",
        "ema_decay=0",
        "warmup=0",
        "schedule=constant",
    ]
    more += ["max_grad_norm=0", "optimizer=adamw", "train_text_encoder=false", "cache_latents=true"]
    said: list[str] = []
    config = load_config(FinetuneConfig, "storybook_finetune.yaml", [*settings, *more, "steps=30", "early_stop=3"])
    outcome = training.fit(config, say=said.append)
    losses = held_out(tmp_path / "run")
    lowest = min(losses, key=lambda step: losses[step])
    assert 0 < lowest and outcome.step == lowest + 3 == max(losses)
    read = {name: json.loads((tmp_path / f"run/best/{name}.json").read_text()) for name in ("held_out", "progress")}
    assert read["held_out"] == {"step": lowest, "loss": losses[lowest]}
    assert read["progress"]["samples"] == 4 * read["progress"]["step"] == 4 * lowest
    assert any(f"lowest at step {lowest}" in line and str(tmp_path / "run" / "best") in line for line in said)
    assert "the held-out loss rises" in capsys.readouterr().err
    assert f"| {lowest} | {losses[lowest]:.4f} |" in (tmp_path / "run" / "best" / "README.md").read_text()
    saved = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "run" / "best").unet.state_dict()
    assert f"| {lowest} | {losses[lowest]:.4f} |" in (tmp_path / "run" / "editor" / "README.md").read_text()
    again = fit([*settings, *more], "steps=30", "early_stop=3")
    assert again.step == outcome.step and held_out(tmp_path / "run") == losses
    fit([*settings, *more], f"steps={lowest}", "early_stop=null", f"out={tmp_path / 'short'}")
    exact = weights(tmp_path / "short", lowest)
    for key, value in saved.items():
        torch.testing.assert_close(value.float(), exact[f"ema-unet/{key}"], atol=1e-3, rtol=1e-3)


def test_validations_and_early_stop_survive_a_kill_before_a_validation(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["learning_rate=0.05", "validate_every=2", "checkpoint_every=1", "validation_edits=0", "early_stop=2"]
    outcome = fit([*settings, *more], "steps=12")
    real = training.Watch.validate

    def dies(self: training.Watch, state: training.State) -> None:
        if state.step == 4:
            raise Killed
        real(self, state)

    again = [*settings, *more, f"out={tmp_path / 'again'}", "steps=12"]
    monkeypatch.setattr(training.Watch, "validate", dies)
    with pytest.raises(Killed):
        fit(again)
    monkeypatch.setattr(training.Watch, "validate", real)
    assert fit(again).step == outcome.step
    assert held_out(tmp_path / "again") == held_out(tmp_path / "run") and 4 in held_out(tmp_path / "run")


def test_a_signal_ends_a_validation_and_the_run_equals_one_without(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [*settings, "validate_every=3", "checkpoint_every=100", "optimizer=adamw", "validation_edits=1"]
    fit(more)
    again, real, calls = [*more, f"out={tmp_path / 'again'}"], validation.editing_loss, iter(range(9))

    def with_signal(*arguments: object) -> torch.Tensor:
        if next(calls) == 1:  # in the validation of step 3
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(validation, "editing_loss", with_signal)
    assert fit(again) == training.RunResult(None, 3, 138)  # at once, and not after the edits and one more step
    assert held_out(tmp_path / "again").keys() == {0} and weights(tmp_path / "again", 3)
    assert fit(again).editor
    assert held_out(tmp_path / "again") == held_out(tmp_path / "run") and 3 in held_out(tmp_path / "run")
    one, two = weights(tmp_path / "run", 6), weights(tmp_path / "again", 6)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_losses_of_other_held_out_pairs_are_not_compared(settings: list[str], tmp_path: Path) -> None:
    more = [*settings, "validate_every=1", "validation_edits=0", "early_stop=9"]
    fit(more, "steps=2")
    before = HeldOutCurve.read(tmp_path / "run" / "metrics.jsonl")
    (tmp_path / "other").mkdir()
    table(("original_image", "edited_image", "edit_prompt"), make_rows(12)).to_parquet(tmp_path / "other/train.parquet")
    fit(more, "steps=3", f"dataset={tmp_path / 'other'}")
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "held_out_loss" in row]
    assert [row["step"] for row in rows] == [0, 1, 2, 2, 3]  # the first is of the weights that it goes on from
    keys = [row["held_out_pairs"] for row in rows]
    assert len(set(keys[:3])) == 1 == len(set(keys[3:])) and keys[0] != keys[-1]
    card = (tmp_path / "run" / "editor" / "README.md").read_text()
    assert "| 1 | " not in card and f"| 3 | {rows[-1]['held_out_loss']:.4f} |" in card
    assert HeldOutCurve.read(tmp_path / "run" / "metrics.jsonl", pairs=int(keys[0])) == before
