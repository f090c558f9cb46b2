"""Write triples by a local language model: any causal one, or one that was fine-tuned by `tune_writer`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.triples.proposals import Message, Proposal
from ip2p.data_gen.writers.local.language_model import load_language_model
from ip2p.data_gen.writers.prompts import ask
from ip2p.data_gen.writers.replies import is_whole, read_reply
from ip2p.errors import ConfigError, WriterError
from ip2p.plurals import counted
from ip2p.records import Caption, Reason
from ip2p.remote.reply_text import MAX_UNREAD, show
from ip2p.seeding import generator

TOKENS_PER_EDIT = 120
"""Written at most for an edit: a caption of the 77 tokens that CLIP reads, an instruction, and the JSON around them."""
TOKENS_PER_INVERSE = 30
TRIAL = 4
"""Captions with which the model is tried at a time, before all others."""


class LocalWriter:
    """Asks a language model on this machine for edits, `settings.parallel` captions at a time.

    A proposal depends on the seed and the caption's id, but not on other captions of its batch: each row has its own
    random numbers. In fp32 this is true except for ties; in bf16, which rounds logits differently in other batches,
    for most proposals.

    Args:
        settings: settings of the triples: model (a folder, a hub id, an adapter from `tune_writer`, or a GGUF file),
            shots, temperature, parallel, inverse.
        seed: seed of the run.
        device: device, which computes in bf16 on CUDA and otherwise in fp32; None for the best available.

    Raises:
        ConfigError: no model is named.
        ModelError: there is no such model, or it is not a causal language model in safetensors or GGUF.
    """

    def __init__(self, settings: TriplesConfig, seed: int, *, device: str | torch.device | None = None) -> None:
        if not settings.model:
            raise ConfigError("triples.writer=local has no model", "Name a folder or hub id with triples.model=...")
        path = Path(settings.model)
        self.name = path.resolve().name if path.exists() else settings.model
        self.settings, self.seed = settings, seed
        self.language = load_language_model(settings.model, device)

    def prepare(self, captions: Sequence[Caption], count: int) -> None:
        """Try the model on a few captions; all work is in `write`.

        Raises:
            WriterError: it writes nothing that can be read about any of them, or there is not enough memory.
        """
        said, tried = "", captions[:MAX_UNREAD]
        for start in range(0, len(tried), TRIAL):
            requests = [each for caption in tried[start : start + TRIAL] for each in self._requests(0, caption, count)]
            for said, ended in self._answers(requests) if requests else ():
                if not self._proposals(said, count, ended)[0].reason:
                    return
        if said:
            raise WriterError(
                f"{self.name} wrote no edit for any of {counted(len(tried), 'caption')}; a raw reply: {show(said)}",
                "Take a model that follows instructions and does not reason, or tune one by `ip2p dataset tune-writer`",
            )

    def write(self, captions: Sequence[Caption], count: int) -> list[list[Proposal]]:
        """Return up to `count` different edits for each caption, in order; or one refused proposal.

        Raises:
            WriterError: there is not enough memory.
        """
        requests = [each for row, caption in enumerate(captions) for each in self._requests(row, caption, count)]
        proposals: list[list[Proposal]] = [[] for _ in captions]
        for start in range(0, len(requests), self.settings.parallel):
            chunk = requests[start : start + self.settings.parallel]
            for request, (text, ended) in zip(chunk, self._answers(chunk), strict=True):
                proposals[request.row] += self._proposals(text, request.edits, ended)
        unasked = [Proposal(reason=Reason.TOO_LONG)]
        return [[each for each in dict.fromkeys(some) if not each.reason] or some[:1] or unasked for some in proposals]

    def conversation(self, caption: Caption, count: int) -> tuple[list[Message], str]:
        """See Writer. The model answers again, with the same result."""
        requests = self._requests(0, caption, count)
        answers = self._answers(requests) if requests else []
        return requests[0].turns if requests else [], "\n".join(text for text, _ in answers)

    def close(self) -> None:
        """Do nothing, since the model is freed with the writer."""

    def _requests(self, row: int, caption: Caption, count: int) -> list["_Generation"]:
        """Make the requests for a caption, with as many examples as fit into the context; none if no request fits.

        A fine-tuned model needs no examples, and writes one edit at a time, so there are `count` requests.
        """
        form, context = self.language.form, self.language.context
        rounds, asked = (count, 1) if form else (1, count)
        limit = asked * (
            TOKENS_PER_EDIT + TOKENS_PER_INVERSE * (self.settings.asks_inverse + 2 * self.settings.long_form)
        )
        for shots in range(0 if form else self.settings.shots, -1, -1):
            turns = self._turns(caption, asked, shots)
            prompt = self.language.encode(turns)
            if context is None or len(prompt) + limit <= context:
                sources = [generator(self.seed, "writer", caption.id, index) for index in range(rounds)]
                return [_Generation(row, asked, turns, prompt, torch.rand(limit, generator=each)) for each in sources]
        return []

    def _turns(self, caption: Caption, count: int, shots: int) -> list[Message]:
        """Return the messages of a request."""
        if self.language.form:
            return self.language.form.turns(caption.text, inverse=self.settings.asks_inverse)
        return ask(caption, count, self.settings, self.seed, shots=shots)

    @torch.inference_mode()
    def _answers(self, requests: Sequence["_Generation"]) -> list[tuple[str, bool]]:
        """Generate the answers to requests with the same count; returns each answer, and whether it is complete."""
        model, tokenizer, _, ends = self.language
        generate: Any = model.generate  # whose type differs between releases
        opening = self.language.opening
        prompts = pad_left([request.prompt for request in requests], ends[0]).to(model.device)
        seen = pad_left([[1] * len(request.prompt) for request in requests], 0).to(model.device)
        draws = torch.stack([request.draws for request in requests]).to(model.device)
        width = prompts.shape[1]
        greedy = GenerationConfig(
            max_new_tokens=draws.shape[1], do_sample=False, eos_token_id=list(ends), pad_token_id=ends[0]
        )
        try:
            written: Tensor = generate(
                prompts, attention_mask=seen, generation_config=greedy,
                logits_processor=[RowSampler(draws, width, self.settings.temperature)],
                stopping_criteria=[StopAtReplyEnd(tokenizer, width, opening, requests[0].edits)],
            )[:, width:]  # fmt: skip
        except torch.OutOfMemoryError:
            fix = "Lower triples.parallel, take a smaller model, or another device; the same command goes on from here"
            raise WriterError(f"no memory left for {len(requests)} requests to {self.name}", fix) from None
        texts = [opening + str(text) for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
        ended = torch.isin(written, torch.tensor(ends, device=written.device)).any(1).tolist()
        return list(zip(texts, ended, strict=True))

    def _proposals(self, text: str, count: int, ended: bool) -> list[Proposal]:
        """Parse the edits in an answer."""
        proposals = read_reply(text, count)
        if not ended and proposals[0].reason is Reason.BAD_REPLY:
            return [Proposal(reason=Reason.CUT_OFF)]
        return proposals if self.settings.asks_inverse else [proposal._replace(inverse="") for proposal in proposals]


class _Generation(NamedTuple):
    """One generation: row of the caption, number of edits, prompt, and a number in [0, 1) for each new token."""

    row: int
    edits: int
    turns: list[Message]
    prompt: list[int]
    draws: Float[Tensor, " steps"]


class RowSampler(LogitsProcessor):
    """Samples tokens by given uniform numbers, through the inverse of the cumulative distribution.

    transformers draws all rows of a batch from one global generator, so that a row would depend on the others. This
    logits processor leaves one token possible, which greedy search then takes.

    Args:
        draws: numbers in [0, 1), with a row for each row of the batch and a column for each new token.
        width: length of the prompts, in tokens.
        temperature: sampling temperature; 0 takes the likeliest token.
    """

    def __init__(self, draws: Float[Tensor, "b steps"], width: int, temperature: float) -> None:
        self.draws, self.width, self.temperature = draws, width, temperature

    def __call__(self, input_ids: Int[Tensor, "b n"], scores: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """Return scores that leave one token of each row possible."""
        if self.temperature == 0:
            return scores
        odds = (scores.float() / self.temperature).softmax(-1).cumsum(-1)
        draw = self.draws[:, input_ids.shape[1] - self.width, None] * odds[:, -1:]
        token = torch.searchsorted(odds, draw, right=True).clamp(max=odds.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


class StopAtReplyEnd(StoppingCriteria):
    """Stops a row once its answer is complete: small models often continue, and base models never stop.

    Args:
        tokenizer: tokenizer of the model.
        width: length of the prompts, in tokens.
        opening: start of the answer, which is part of the prompt.
        count: number of requested edits.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, width: int, opening: str, count: int) -> None:
        self.tokenizer, self.width, self.opening, self.count = tokenizer, width, opening, count

    def __call__(self, input_ids: Int[Tensor, "b n"], scores: Any, **options: Any) -> Bool[Tensor, " b"]:
        """Return which rows are complete."""
        last = self.tokenizer.batch_decode(input_ids[:, -1:])
        ended = [
            ("}" in token or "]" in token) and self._whole(row) for token, row in zip(last, input_ids, strict=True)
        ]
        return torch.tensor(ended, device=input_ids.device)

    def _whole(self, row: Int[Tensor, " n"]) -> bool:
        text = self.tokenizer.decode(row[self.width :], skip_special_tokens=True)
        return is_whole(f"{self.opening}{text}", self.count)


def pad_left(rows: Sequence[Sequence[int]], padding: int) -> Int[Tensor, "b n"]:
    """Pad rows on the left to the same length."""
    tokens = [torch.tensor(row) for row in rows]
    return pad_sequence(tokens, batch_first=True, padding_value=padding, padding_side="left")
