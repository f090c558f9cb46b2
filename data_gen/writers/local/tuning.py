"""Fine-tune a language model to write triples: LoRA on the seed triples.

The paper's authors fine-tuned GPT-3 on 700 triples written by hand, for one epoch (arXiv 2211.09800, section 3.1). Here
any causal language model can be used, and the result is a LoRA adapter of a few megabytes.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import ModelCard, ModelCardData
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from ip2p.data_gen.writers.local.language_model import (
    ADAPTER_FILE,
    ADAPTER_WEIGHTS,
    PROMPT_FILE,
    LanguageModel,
    PromptFormat,
    load_language_model,
)
from ip2p.data_gen.writers.prompts import messages
from ip2p.data_gen.writers.seeds import SeedTriple, load_seeds
from ip2p.errors import ConfigError, DataError, ModelError, TrainingError
from ip2p.models.loading import quiet
from ip2p.plurals import counted
from ip2p.seeding import derive_seed
from ip2p.shards import atomic_dir, fingerprint

MIN_CAPTIONS = 10
"""Captions from which a tenth can be held out."""
FILES = {ADAPTER_FILE, ADAPTER_WEIGHTS, PROMPT_FILE, "README.md"}
"""Files of a tuned writer."""
CARD = Path(__file__).with_name("card.md.jinja")
IGNORED = -100
WARMUP = 0.1


class Recipe(NamedTuple):
    """Hyperparameters of the fine-tuning.

    Args:
        epochs: number of epochs over the seed triples, at least 1.
        rank: rank of the LoRA matrices, at least 1.
        learning_rate: peak learning rate, reached after the first tenth of the steps; it then falls as a cosine.
        batch: answers in a training step, at least 1.
        seed: seed of the split, the order, and the initial matrices.
    """

    epochs: int = 3
    rank: int = 16
    learning_rate: float = 2e-4
    batch: int = 8
    seed: int = 0


class Example(NamedTuple):
    """Token ids, and the labels: the same with IGNORED in place of the prompt."""

    tokens: list[int]
    labels: list[int]


def tune_writer(
    model: str,
    out: Path,
    *,
    seeds: Sequence[SeedTriple] | None = None,
    recipe: Recipe | None = None,
    device: str | torch.device | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Tune a language model on seed triples and write the LoRA adapter, for `triples.writer=local triples.model=OUT`.

    A random tenth of the captions is held out; the loss on their seeds before and after is printed and written into the
    adapter's card. A seed with an inverse gives two examples, with and without it.

    The adapter is written atomically at the end, so a run that was killed leaves `out` unchanged.

    Args:
        model: folder or hub id of a causal language model in safetensors, or a GGUF file.
        out: folder of the adapter; an existing adapter is replaced.
        seeds: seed triples; None for the bundled ones.
        recipe: hyperparameters; None for the defaults.
        device: device to compute on; the best available if None.
        say: function that prints a line.

    Returns:
        The folder of the adapter.

    Raises:
        ConfigError: `out` has other contents than an adapter, or a hyperparameter is not positive.
        DataError: there are too few seeds.
        ModelError: the model cannot be loaded, or is fine-tuned already.
        TrainingError: the loss is not finite.
    """
    recipe = recipe or Recipe()
    _check(model, out, recipe)
    source = str(Path(model).resolve()) if Path(model).exists() else model  # found again from any folder
    kept, held_out = split(load_seeds() if seeds is None else seeds, recipe.seed)
    base = load_language_model(source, device)
    language = base._replace(model=_add_lora(base.model, source, recipe), form=PromptFormat())
    training, test = (examples(part, language) for part in (kept, held_out))
    before = mean_loss(language, test, recipe.batch)
    say(f"held-out loss before: {before:.4f}, {len(held_out)} of {len(kept) + len(held_out)} seeds")
    _train(language, training, recipe, say)
    after = mean_loss(language, test, recipe.batch)
    say(f"held-out loss after: {after:.4f}")
    with atomic_dir(out) as folder:
        language.model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        (folder / PROMPT_FILE).write_text(PromptFormat().model_dump_json(indent=1) + "\n")
        (folder / "README.md").write_text(_card(source, recipe, kept, held_out, before, after))
    return out


def split(seeds: Sequence[SeedTriple], seed: int) -> tuple[list[SeedTriple], list[SeedTriple]]:
    """Split seeds into training seeds and a held-out tenth; seeds with the same caption stay together.

    Raises:
        DataError: there are fewer than 10 captions.
    """
    captions = sorted({each.caption for each in seeds})
    if len(captions) < MIN_CAPTIONS:
        raise DataError(
            f"the seeds have {counted(len(captions), 'caption')}, too few to hold out a tenth", f"Give {MIN_CAPTIONS}"
        )
    chosen = set(random.Random(derive_seed(seed, "tuning", "held-out")).sample(captions, len(captions) // 10))
    sides = [each for each in seeds if each.caption not in chosen], [each for each in seeds if each.caption in chosen]
    return sides


def examples(seeds: Sequence[SeedTriple], language: LanguageModel) -> list[Example]:
    """Make training examples from seeds: one for each, and another with the inverse if there is one."""
    wanted = [(seed, inverse) for seed in seeds for inverse in ((False, True) if seed.inverse else (False,))]
    return [_example(seed, language, inverse) for seed, inverse in wanted]


def _example(seed: SeedTriple, language: LanguageModel, inverse: bool) -> Example:
    assert language.form is not None, "the caller gives it one"
    prompt = language.encode(language.form.turns(seed.caption, inverse=inverse))
    answer = messages(seed.caption, 1, [seed], inverse=inverse)[2]["content"].removeprefix(language.form.opening)
    rest = [*language.tokenizer(answer, add_special_tokens=False).input_ids, language.ends[0]]
    return Example([*prompt, *rest], [IGNORED] * len(prompt) + rest)


@torch.no_grad()
def mean_loss(language: LanguageModel, rows: Sequence[Example], batch: int) -> float:
    """Return the cross-entropy of the answers in nats per token; puts the model into evaluation mode."""
    language.model.eval()
    total, count = 0.0, 0
    for start in range(0, len(rows), batch):
        chunk = rows[start : start + batch]
        tokens = sum(label != IGNORED for row in chunk for label in row.labels)
        total += tokens * float(_loss(language, chunk))
        count += tokens
    return total / count


def _train(language: LanguageModel, rows: Sequence[Example], recipe: Recipe, say: Callable[[str], None]) -> None:
    """Train by AdamW, with a new order in each epoch."""
    # Not the loop of ip2p.train: data_gen knows nothing of it, and a minute of tuning needs no checkpoints.
    weights = [weight for weight in language.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, recipe.learning_rate, weight_decay=0.0)
    steps = recipe.epochs * -(-len(rows) // recipe.batch)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(WARMUP * steps), steps)
    for epoch in range(recipe.epochs):
        language.model.train()
        order = random.Random(derive_seed(recipe.seed, "tuning", "order", epoch)).sample(rows, len(rows))
        losses = []
        for start in range(0, len(order), recipe.batch):
            loss = _loss(language, order[start : start + recipe.batch])
            losses.append(loss.item())
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss is {loss.item()} in epoch {epoch + 1}", "Lower the learning rate")
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        say(f"epoch {epoch + 1} of {recipe.epochs}: loss {sum(losses) / len(losses):.4f}")


def _loss(language: LanguageModel, rows: Sequence[Example]) -> Tensor:
    """Return the mean cross-entropy of the answers' tokens."""

    def column(values: Sequence[list[int]], padding: int) -> Tensor:
        stacked = pad_sequence([torch.tensor(each) for each in values], batch_first=True, padding_value=padding)
        return stacked.to(language.model.device)

    model: Any = language.model
    loss: Tensor = model(
        input_ids=column([row.tokens for row in rows], language.ends[0]),
        attention_mask=column([[1] * len(row.tokens) for row in rows], 0),
        labels=column([row.labels for row in rows], IGNORED),
    ).loss
    return loss


def _add_lora(model: PreTrainedModel, source: str, recipe: Recipe) -> Any:
    """Add LoRA matrices to each linear layer of the model's blocks, and freeze all other weights."""
    from peft import LoraConfig, get_peft_model  # here, because it takes seconds

    torch.manual_seed(derive_seed(recipe.seed, "tuning", "lora"))
    lora = LoraConfig(
        r=recipe.rank, lora_alpha=2 * recipe.rank, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with quiet():
        adapted = get_peft_model(model, lora)
    lora.base_model_name_or_path = source  # peft takes the folder of a GGUF file
    return adapted


def _check(model: str, out: Path, recipe: Recipe) -> None:
    """Check the arguments before the slow work starts."""
    if min(recipe.epochs, recipe.rank, recipe.batch, recipe.learning_rate) <= 0:
        raise ConfigError(f"epochs, rank, batch and learning rate must be positive, not {recipe}", "Raise them")
    if (Path(model) / ADAPTER_FILE).is_file():
        raise ModelError(f"{model} is an adapter already", "Tune the model that it belongs to, named in its README.md")
    if (out.exists() or out.is_symlink()) and not _is_ours(out):
        raise ConfigError(f"{out} holds something else than a tuned writer", "Name another folder")


def _is_ours(out: Path) -> bool:
    """Return whether a path is an empty folder, or a tuned writer and nothing else, so that it may be replaced."""
    if out.is_symlink() or not out.is_dir():
        return False
    there = list(out.iterdir())
    if any(each.is_symlink() or each.name not in FILES for each in there):
        return False
    try:
        return not there or bool(PromptFormat.model_validate_json((out / PROMPT_FILE).read_bytes()))
    except (OSError, ValidationError):
        return False


def _card(
    source: str, recipe: Recipe, kept: Sequence[SeedTriple], held_out: Sequence[SeedTriple], before: float, after: float
) -> str:
    """Return the text of the model card."""
    seeds = fingerprint({"seeds": [list(each) for each in (*kept, *held_out)]})
    rows = {
        "base model": source, "seeds to learn from": len(kept), "seeds held out": len(held_out), "seeds' hash": seeds,
        **recipe._asdict(), "held-out loss before": f"{before:.4f}", "held-out loss after": f"{after:.4f}",
    }  # fmt: skip
    header = ModelCardData(library_name="peft", pipeline_tag="text-generation", tags=["lora", "instruct-pix2pix"])
    return f"{ModelCard.from_template(header, template_path=str(CARD), file=PROMPT_FILE, rows=rows)}\n"
