"""Training on preference pairs: two edits of one picture by one instruction, of which one was kept and one refused.

The pairs are the configuration `preferences` of a packed data set: `chosen` and `rejected` are the edited pictures,
`original_image` and `rejected_original_image` the originals, which are the same picture where siblings share their
noise.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ip2p.diffusion.noise import ForwardProcess
from ip2p.errors import DataError
from ip2p.pairs.columns import Columns
from ip2p.pairs.read import locate
from ip2p.train.config import DataSource
from ip2p.train.objective import TrainingBatch, editing_loss
from ip2p.train.pairs import PairDataset, open_pairs

SUBSET = "preferences"
CHOSEN = Columns(original="original_image", instruction="edit_prompt", edited="chosen")
REJECTED = Columns(original="rejected_original_image", instruction="edit_prompt", edited="rejected")
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


def open_preferences(
    *sources: DataSource, say: Callable[[str], None] = lambda _: None
) -> tuple[PairDataset, PairDataset]:
    """Open the preference pairs of packed data sets: a data set of chosen edits, and one of rejected edits, row by row.

    Every row is checked, and one that cannot be used is an error. What is held out is as in `open_pairs`. Rejected
    edits have the sizes and triples of the chosen ones, so that both come in the same order.

    Args:
        sources: packed data sets, or builds.
        say: function that prints a line.

    Raises:
        DataError: a data set has no preference pairs, or rows that cannot be used, or too few of them.
    """
    chosen, rejected = (
        open_pairs(*(_edits(each, columns) for each in sources), say=say) for columns in (CHOSEN, REJECTED)
    )
    if absent := max(len(chosen.without), len(rejected.without)):
        raise DataError(
            f"preference pairs without a picture to edit: {absent}", "Remove them, or build the data set again"
        )
    return chosen, rejected._replace(sizes=chosen.sizes, triples=chosen.triples)


def _edits(source: DataSource, columns: Columns) -> DataSource:
    """Return one edit of each preference pair of a packed data set, as pairs.

    Raises:
        DataError: the data set has no preference pairs.
    """
    folder = locate(source.path) / SUBSET
    if not folder.is_dir():
        raise DataError(f"there are no preference pairs in {folder}", HINT)
    return source.model_copy(update={"path": str(folder), "columns": columns})
