"""Training on preference pairs: two edits of one picture by one instruction, of which one was kept and one refused.

The pairs are the configuration `preferences` of a packed data set: `chosen` and `rejected` are the edited pictures,
`original_image` and `rejected_original_image` the originals, which are the same picture where siblings share their
noise.
"""

import torch
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError
from jaxtyping import Float
from torch import Tensor, nn

from ip2p.data_folders import dataset_arguments
from ip2p.diffusion.noise import ForwardProcess
from ip2p.errors import DataError, one_line
from ip2p.train.batches import HELD_OUT_SPLITS, MAX_HELD_OUT, PairDataset
from ip2p.train.objective import TrainingBatch, editing_loss

SUBSET = "preferences"
CHOSEN = {"original_image": "original_image", "edit_prompt": "edit_prompt", "chosen": "edited_image"}
REJECTED = {"rejected_original_image": "original_image", "edit_prompt": "edit_prompt", "rejected": "edited_image"}
"""Columns of preference pairs, as those of pairs."""
HINT = "Build a data set with pack.preferences=true, or leave out dpo_beta to train on its pairs"


def preference_loss(
    model: nn.Module,
    reference: nn.Module,
    process: ForwardProcess,
    chosen: TrainingBatch,
    rejected: TrainingBatch,
    *,
    beta: float,
) -> Float[Tensor, " b"]:
    """Return the Diffusion-DPO loss of each preference pair (Wallace et al., arXiv 2311.12908, equation 14).

    With E(x) the mean squared error of the model's prediction for the noised edit x, and R(x) the reference's,

        loss = -log sigmoid(-beta / 2 * ((E(chosen) - R(chosen)) - (E(rejected) - R(rejected)))),

    where both edits of a pair have the same noise and timestep. The timestep's weight is constant, and the errors are
    means over the latents with a factor of 1/2, as in the code of the paper's authors, so their values of beta apply.

    Args:
        model: an EditingModel, possibly wrapped by accelerate.
        reference: the EditingModel as it was before this training, frozen.
        process: forward process of the base model.
        chosen, rejected: inputs of the loss for the two edits of each pair, with the same noise and timesteps.
        beta: how strongly the model is held to the reference, > 0; the paper's is 2000 for Stable Diffusion 1.5.
    """
    both = TrainingBatch(
        *(torch.cat(parts) for parts in zip(chosen[:5], rejected[:5], strict=True))  # no weights of single pixels
    )
    errors = editing_loss(model, process, both)
    with torch.no_grad():
        before = editing_loss(reference, process, both)
    better, worse = (errors - before).chunk(2)
    return -nn.functional.logsigmoid(-0.5 * beta * (better - worse))


def open_preferences(*sources: str) -> tuple[PairDataset, PairDataset]:
    """Open the preference pairs of packed data sets: a data set of chosen edits, and one of rejected edits, row by row.

    The held-out pairs of each source are its split `test` or `validation`, or else its last twentieth; 64 at most.

    Args:
        sources: folders of packed data sets, or names of data sets on the hub.

    Raises:
        DataError: a source has no preference pairs, or fewer than two.
    """
    trains, held_outs = zip(*map(_open, sources), strict=True)
    train, held_out = concatenate_datasets(list(trains)), concatenate_datasets(list(held_outs))
    held_out = held_out.select(range(min(MAX_HELD_OUT, len(held_out))))
    if not len(train) or not len(held_out):
        raise DataError(f"the data set {', '.join(sources)} has too few preference pairs to train on", HINT)
    chosen, rejected = (PairDataset(_view(train, names), _view(held_out, names)) for names in (CHOSEN, REJECTED))
    return chosen, rejected


def _open(source: str) -> tuple[Dataset, Dataset]:
    """Return the preference pairs of a data set to train on, and those held out."""
    try:
        splits = load_dataset(**dataset_arguments(source, SUBSET))
    except (OSError, ValueError, DatasetGenerationError) as error:
        raise DataError(f"cannot read preference pairs from {source} ({one_line(error)})", HINT) from error
    assert isinstance(splits, DatasetDict)
    for name, split in splits.items():
        if missing := (CHOSEN.keys() | REJECTED.keys()) - set(split.column_names):
            raise DataError(
                f"the preference pairs of {source}, split {name}, have no {', '.join(sorted(missing))}", HINT
            )
    if "train" not in splits:
        raise DataError(f"the preference pairs of {source} have no split train, but {', '.join(splits)}", HINT)
    train = splits["train"]
    held_out = next((splits[name] for name in HELD_OUT_SPLITS if name in splits and len(splits[name])), None)
    if held_out is None:
        kept = max(0, len(train) - min(MAX_HELD_OUT, max(1, len(train) // 20)))
        train, held_out = train.select(range(kept)), train.select(range(kept, len(train)))
    return train, held_out


def _view(preferences: Dataset, names: dict[str, str]) -> Dataset:
    """Return one edit of each preference pair with its original and instruction, as a data set of pairs."""
    return preferences.select_columns(list(names)).rename_columns(
        {old: new for old, new in names.items() if old != new}
    )
