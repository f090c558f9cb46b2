"""Fine-tuning of a tiny random language model on the seeds: it learns, can be loaded, and is written atomically."""

import functools
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.writers.local import tuning
from ip2p.data_gen.writers.local.language_model import PromptFormat, load_language_model
from ip2p.data_gen.writers.local.tuning import IGNORED, Recipe, examples, mean_loss, split, tune_writer
from ip2p.data_gen.writers.local.writer import LocalWriter
from ip2p.data_gen.writers.seeds import SeedTriple, load_seeds
from ip2p.errors import ConfigError, DataError, Ip2pError, ModelError, TrainingError
from ip2p.models.loading import quiet
from ip2p.records import Caption, Reason, content_id

SEEDS = load_seeds()[:40]
QUICK = Recipe(epochs=1, rank=2, batch=8)
LEARNED = Recipe(epochs=4, rank=8, learning_rate=1e-2, batch=8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random Llama of two layers, with a byte-level tokenizer trained on the seeds."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=["<|end|>"], initial_alphabet=letters, show_progress=False
    )
    words.train_from_iterator([" ".join(seed) for seed in load_seeds()], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, initializer_range=0.1, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def said() -> list[str]:
    """Return the lines printed by the fine-tuning of `tuned`."""
    return []


@pytest.fixture(scope="module")
def tuned(base: Path, said: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fine-tune an adapter."""
    return tune_writer(
        str(base),
        tmp_path_factory.mktemp("tuned") / "writer",
        seeds=SEEDS,
        recipe=LEARNED,
        device="cpu",
        say=said.append,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of an adapter."""
    return load_file(folder / "adapter_model.safetensors")


def killed(work: Callable[[], object]) -> int:
    """Run work in another process; returns the signal that killed it, or 0."""
    process = os.fork()
    if process == 0:
        torch.set_num_threads(1)  # the parent's threads do not come along
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_tuning_lowers_the_held_out_loss(tuned: Path, said: list[str]) -> None:
    before, *epochs, after = (float(line.split(":")[1].split(",")[0].removeprefix(" loss")) for line in said)
    assert len(epochs) == LEARNED.epochs and epochs[-1] < epochs[0] - 0.5
    assert after < before - 1
    card = (tuned / "README.md").read_text()
    assert f"| held-out loss before | {before:.4f} |" in card and f"| held-out loss after | {after:.4f} |" in card
    assert "| rank | 8 |" in card and "| seeds held out | 4 |" in card


def test_what_was_written_is_what_was_measured(base: Path, tuned: Path, said: list[str]) -> None:
    """The writer's merged model and peft's own have the loss that the fine-tuning printed."""
    after = float(said[-1].split(":")[1])
    merged = load_language_model(str(tuned), "cpu")
    rows = examples(split(SEEDS, LEARNED.seed)[1], merged)
    assert mean_loss(merged, rows, 8) == pytest.approx(after, abs=1e-3)
    with quiet():
        peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tuned))
    assert mean_loss(merged._replace(model=peft), rows, 8) == pytest.approx(after, abs=1e-3)


def test_a_tuned_writer_writes(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ip2p.data_gen.writers.local.writer.TOKENS_PER_EDIT", 20)
    writer = LocalWriter(TriplesConfig(writer="local", model=str(tuned), parallel=4), seed=1, device="cpu")
    assert writer.name == "writer" and writer.language.form == PromptFormat()
    rows = [Caption(id=content_id(seed.caption), text=seed.caption, source="test") for seed in SEEDS[:3]]
    asked: list[int] = []
    answers = writer._answers
    monkeypatch.setattr(writer, "_answers", lambda chunk: asked.append(len(chunk)) or answers(chunk))
    proposals = writer.write(rows, 2)
    assert asked == [4, 2]  # one edit at a time, twice for each caption
    assert len(proposals) == 3 and all(1 <= len(found) <= 2 for found in proposals)
    assert {proposal.reason for found in proposals for proposal in found} <= {
        Reason.OK,
        Reason.CUT_OFF,
        Reason.BAD_REPLY,
    }


def test_what_stands_in_the_prompt_belongs_to_the_answer(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ip2p.data_gen.writers.local.writer.TOKENS_PER_EDIT", 4)
    writer = LocalWriter(TriplesConfig(writer="local", model=str(tuned)), seed=1, device="cpu")
    caption = Caption(id=content_id("a barn"), text="a barn", source="test")
    asked, answered = writer.conversation(caption, 2)
    assert [turn["role"] for turn in asked] == ["user"] and asked[0]["content"].endswith(PromptFormat().opening)
    assert answered.count(PromptFormat().opening) == 2 and answered.startswith(PromptFormat().opening)


def test_the_base_model_is_found_from_every_folder(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base.parent)
    out = tune_writer(base.name, tmp_path / "out", seeds=SEEDS[:12], recipe=QUICK, device="cpu", say=str)
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base.resolve())
    model = tuning._add_lora(load_language_model(str(base), "cpu").model, "words.gguf", QUICK)
    assert model.peft_config["default"].base_model_name_or_path == "words.gguf"


def test_examples_end_in_an_answer_that_can_be_read(base: Path) -> None:
    language = load_language_model(str(base), "cpu")._replace(form=PromptFormat())
    one_way = SeedTriple("a barn", "make it night", "a barn at night", "time", "")
    both = one_way._replace(inverse="make it day")
    for seed, count in ((one_way, 1), (both, 2)):
        found = examples([seed], language)
        assert len(found) == count
        for row, inverse in zip(found, (False, True), strict=False):
            start = len(row.labels) - len([label for label in row.labels if label != IGNORED])
            prompt, answer = row.tokens[:start], row.tokens[start:]
            assert row.labels == [IGNORED] * start + answer and answer[-1] == language.tokenizer.eos_token_id
            assert prompt == language.encode(PromptFormat().turns("a barn", inverse=inverse))
            edit = {"instruction": "make it night", "edited_caption": "a barn at night", "kind": "time"}
            expected = {"edits": [edit | ({"inverse": "make it day"} if inverse else {})]}
            text = language.tokenizer.decode(row.tokens)
            assert json.loads(text[text.index('{"edits"') :].removesuffix("<|end|>")) == expected


def test_a_tenth_is_held_out_by_caption() -> None:
    twice = [*SEEDS, *(seed._replace(instruction="again") for seed in SEEDS)]
    kept, held_out = split(twice, 0)
    assert len(held_out) == 8 and len(kept) == 72
    assert not {seed.caption for seed in kept} & {seed.caption for seed in held_out}
    assert split(twice, 1)[1] != held_out
    with pytest.raises(DataError, match="the seeds have 9 captions, too few"):
        split(SEEDS[:9], 0)


def test_equal_recipes_give_equal_weights(base: Path, tmp_path: Path) -> None:
    folders = [
        tune_writer(
            str(base), tmp_path / str(index), seeds=SEEDS[:12], recipe=QUICK._replace(seed=seed), device="cpu", say=str
        )
        for index, seed in enumerate((0, 0, 1))
    ]
    one, same, other = (weights(folder) for folder in folders)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("moment", ["training", "saving"])
def test_a_killed_run_leaves_nothing_half(
    moment: str, base: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No partial adapter is left, the old one stays, and the next run removes temporary files."""

    def kill(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def say(line: str) -> None:
        if moment == "training" and line.startswith("epoch"):
            kill()

    fresh, older = tmp_path / "fresh", tmp_path / "older"
    shutil.copytree(tuned, older)
    with monkeypatch.context() as patch:
        if moment == "saving":
            patch.setattr(tuning, "_card", kill)
        for out in (fresh, older):
            work = functools.partial(tune_writer, str(base), out, seeds=SEEDS[:12], recipe=QUICK, device="cpu", say=say)
            assert killed(work) == -signal.SIGKILL
    assert not fresh.exists() and weights(older).keys() == weights(tuned).keys()
    assert any(tmp_path.glob(".ip2p-tmp-*")) == (moment == "saving")
    for out in (fresh, older):
        tune_writer(str(base), out, seeds=SEEDS[:12], recipe=QUICK, device="cpu", say=str)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "older"]


def test_a_failure_leaves_nothing(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_loss", lambda *_: torch.tensor(torch.nan, requires_grad=True))
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1. Lower the learning rate"):
        tune_writer(str(base), tmp_path / "out", seeds=SEEDS[:12], recipe=QUICK, device="cpu", say=str)
    assert not list(tmp_path.iterdir())


def test_what_cannot_work_is_told_before_anything_is_done(
    base: Path, tuned: Path, clip_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    added = shutil.copytree(tuned, tmp_path / "added")
    (added / "letter.txt").write_text("dear")
    (tmp_path / "linked").symlink_to(tuned)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "writer.json").write_text('{"name": "a writer of novels"}')
    before = sorted(tmp_path.rglob("*"))
    wrong: list[tuple[str, Path, Recipe, type[Ip2pError], str]] = [
        (str(base), tmp_path / "mine", QUICK, ConfigError, "holds something else than a tuned writer"),
        *((str(base), tmp_path / name, QUICK, ConfigError, "something else") for name in ("added", "linked", "own")),
        (str(base), tmp_path / "new", QUICK._replace(epochs=0), ConfigError, "must be positive"),
        (str(tuned), tmp_path / "new", QUICK, ModelError, "is an adapter already"),
        (str(clip_folder), tmp_path / "new", QUICK, ModelError, "cannot load the language model"),
        (str(tmp_path / "none"), tmp_path / "new", QUICK, ModelError, "cannot load the language model"),
    ]
    for model, out, recipe, kind, message in wrong:
        with pytest.raises(kind, match=message) as caught:
            tune_writer(model, out, seeds=SEEDS, recipe=recipe, device="cpu", say=str)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before and weights(added).keys() == weights(tuned).keys()


def test_temporary_files_of_others_stay(base: Path, tmp_path: Path) -> None:
    """Tuning sweeps what killed runs left; names alone do not make a file one of ours."""
    theirs = [".tmp-writer", ".old-writer", ".ip2p-tmp-999999-0123456789abcdef-writer", ".ip2p-old-1-0-writer"]
    for name in theirs:
        (tmp_path / name).mkdir()
        (tmp_path / name / "letter.txt").write_text("dear")
    tune_writer(str(base), tmp_path / "writer", seeds=SEEDS, recipe=QUICK, device="cpu", say=str)
    assert all((tmp_path / name / "letter.txt").read_text() == "dear" for name in theirs)


def test_a_damaged_adapter_is_told(tuned: Path, tmp_path: Path) -> None:
    for index, (name, content) in enumerate(
        [("adapter_model.safetensors", b"\xff" * 99), ("adapter_config.json", b"{}"), ("writer.json", b"{")]
    ):
        folder = shutil.copytree(tuned, tmp_path / str(index))
        (folder / name).write_bytes(content)
        with pytest.raises(ModelError) as caught:
            load_language_model(str(folder))
        assert "\n" not in str(caught.value)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="it has no adapter_model.safetensors"):
        load_language_model(str(folder))
