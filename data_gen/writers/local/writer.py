"""Write triples by a local language model: any causal one, or one that was fine-tuned by `tune_writer`."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)
from transformers.utils.import_utils import is_gguf_available

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.triples.proposals import Message, Proposal
from ip2p.data_gen.writers.prompts import ask, messages, read_reply
from ip2p.errors import ConfigError, ModelError, WriterError, one_line
from ip2p.models.loading import load_whole, quiet
from ip2p.records import Caption, Reason
from ip2p.seeding import generator

PROMPT_FILE = "writer.json"
"""Beside the weights of a fine-tuned writer: how it wants to be asked."""

ADAPTER_FILE = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENS_PER_EDIT = 120
"""Written at most for an edit: a caption of the 77 tokens that CLIP reads, an instruction, and the JSON around them."""
TOKENS_PER_INVERSE = 30

REPLY_START = re.compile(r'\{\s*"edits"')


class PromptFormat(BaseModel):
    """The prompt of a fine-tuned writer: `question`, `edit` or `both`, and `opening`; the model completes the JSON.

    It has no rules or examples, since the model has learned them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edit: str = Field(default="\nEdit: ", description="between question and answer")
    both: str = Field(default="\nEdit and the way back: ", description="the same, where the inverse is wanted")
    opening: str = Field(default='{"edits": [{"instruction":', description="the start of every answer")

    def turns(self, caption: str, *, inverse: bool) -> list[Message]:
        """Return a request, as one text that the model continues."""
        question = messages(caption, 1, [])[1]
        return [question | {"content": question["content"] + (self.both if inverse else self.edit) + self.opening}]


class LanguageModel(NamedTuple):
    """A causal language model for inference.

    Attributes:
        model: language model.
        tokenizer: tokenizer of the model.
        form: prompt format of a fine-tuned writer; None for other models.
        ends: ids of the tokens that end a text, at least one.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    form: PromptFormat | None
    ends: tuple[int, ...]

    @property
    def context(self) -> int | None:
        """Length of the model's context in tokens; None if unknown."""
        longest: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return longest

    def encode(self, turns: Sequence[Message]) -> list[int]:
        """Encode a request as token ids, in the chat template of the model."""
        turns = [turn | {"content": escape_special_tokens(turn["content"], self.tokenizer)} for turn in turns]
        if self.tokenizer.chat_template and not self.form:
            text = _render(self.tokenizer, turns)
            return list(self.tokenizer(text, add_special_tokens=False).input_ids)  # the template has the special ones
        return list(self.tokenizer(turns[0]["content"] if self.form else to_plain_text(turns)).input_ids)


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
        """Do nothing, since all work is in `write`."""

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
        limit = asked * (TOKENS_PER_EDIT + TOKENS_PER_INVERSE * (self.settings.inverse + 2 * self.settings.long_form))
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
            return self.language.form.turns(caption.text, inverse=self.settings.inverse)
        return ask(caption, count, self.settings, self.seed, shots=shots)

    @torch.inference_mode()
    def _answers(self, requests: Sequence["_Generation"]) -> list[tuple[str, bool]]:
        """Generate the answers to requests with the same count; returns each answer, and whether it is complete."""
        model, tokenizer, form, ends = self.language
        generate: Any = model.generate  # whose type differs between releases
        opening = form.opening if form else ""
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
                stopping_criteria=[StopAtReplyEnd(tokenizer, width, opening)],
            )[:, width:]  # fmt: skip
        except torch.OutOfMemoryError:
            fix = "Lower triples.parallel, take a smaller model, or another device; the same command goes on from here"
            raise WriterError(f"no memory left for {len(requests)} requests to {self.name}", fix) from None
        texts = [opening + str(text) for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
        ended = torch.isin(written, torch.tensor(ends, device=written.device)).any(1).tolist()
        return list(zip(texts, ended, strict=True))

    def _proposals(self, text: str, count: int, ended: bool) -> list[Proposal]:
        """Parse the edits in an answer."""
        proposals = read_reply(find_reply(text) or text, count)
        if not ended and proposals[0].reason is Reason.BAD_REPLY:
            return [Proposal(reason=Reason.CUT_OFF)]
        return proposals if self.settings.inverse else [proposal._replace(inverse="") for proposal in proposals]


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
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, width: int, opening: str) -> None:
        self.tokenizer, self.width, self.opening = tokenizer, width, opening

    def __call__(self, input_ids: Int[Tensor, "b n"], scores: Any, **options: Any) -> Bool[Tensor, " b"]:
        """Return which rows are complete."""
        last = self.tokenizer.batch_decode(input_ids[:, -1:])
        ended = ["}" in token and self._whole(row) for token, row in zip(last, input_ids, strict=True)]
        return torch.tensor(ended, device=input_ids.device)

    def _whole(self, row: Int[Tensor, " n"]) -> bool:
        text = self.tokenizer.decode(row[self.width :], skip_special_tokens=True)
        return find_reply(f"{self.opening}{text}") is not None


def find_reply(text: str) -> str | None:
    """Return the first complete JSON object with edits in a text; None if there is none."""
    start = REPLY_START.search(text)
    try:
        return text[start.start() : json.JSONDecoder().raw_decode(text, start.start())[1]] if start else None
    except (ValueError, RecursionError):
        return None


def to_plain_text(turns: Sequence[Message]) -> str:
    """Format a conversation as plain text, for models without a chat template; it ends before the answer."""
    names = {"system": "", "user": "Question: ", "assistant": "Answer: "}
    return "\n".join(names[turn["role"]] + turn["content"] for turn in turns) + "\nAnswer:"


def escape_special_tokens(content: str, tokenizer: PreTrainedTokenizerBase) -> str:
    r"""JSON without the tokenizer's own marks, such as <|im_end|>: their first character becomes a \u escape of JSON.

    A caption that holds one would close the turn that it stands in.
    """
    for token in tokenizer.added_tokens_decoder.values():
        mark = token.content
        if mark.strip() and mark in content:
            content = content.replace(mark, f"\\u{ord(mark[0]):04x}{mark[1:]}")
    return content


def pad_left(rows: Sequence[Sequence[int]], padding: int) -> Int[Tensor, "b n"]:
    """Pad rows on the left to the same length."""
    tokens = [torch.tensor(row) for row in rows]
    return pad_sequence(tokens, batch_first=True, padding_value=padding, padding_side="left")


def load_language_model(source: str, device: str | torch.device | None = None) -> LanguageModel:
    """Load a causal language model: bf16 on cuda, else fp32.

    Args:
        source: folder or hub id of a model in safetensors, a GGUF file, or a folder with a LoRA adapter, which is
            merged into its base model.
        device: device to compute on; None for the best available.

    Raises:
        ModelError: there is no such model, it is of another kind, or a required package is not installed.
    """
    path, device = Path(source), device or _best_device()
    try:
        with quiet():
            adapted = (path / ADAPTER_FILE).is_file()
            model, tokenizer = _load_adapted(path, device) if adapted else _load_plain(source, device)
            ends = _end_tokens(model, tokenizer)
            form = (
                PromptFormat.model_validate_json((path / PROMPT_FILE).read_bytes())
                if (path / PROMPT_FILE).is_file()
                else None
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"cannot load the language model {source} ({one_line(error)})",
            "Give a folder or hub id of a causal language model in safetensors, a GGUF file, or a tuned writer",
        ) from error
    model.generation_config = GenerationConfig(eos_token_id=list(ends), pad_token_id=ends[0])  # no habits of its own
    return LanguageModel(model.eval(), tokenizer, form, ends)


def _best_device() -> torch.device:
    from ip2p.device import best_device  # here, because it brings what draws pictures

    return best_device()


def _load_plain(source: str, device: str | torch.device) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model without an adapter."""
    options: dict[str, Any] = {"trust_remote_code": False}
    if source.endswith(".gguf"):
        if not Path(source).is_file():
            raise ModelError(f"there is no file {source}", "Check triples.model")
        if not is_gguf_available():
            raise ModelError(f"{source} needs the package gguf", "Install it: pip install 'gguf>=0.10'")
        options["gguf_file"] = Path(source).name
        source = str(Path(source).parent)
    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    model = load_whole(AutoModelForCausalLM, source, dtype=dtype, **options)
    return model.to(device), tokenizer


def _load_adapted(folder: Path, device: str | torch.device) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a base model, and merge a LoRA adapter into it."""
    from peft import PeftModel  # here, because it takes seconds

    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ValueError(f"it has no {ADAPTER_WEIGHTS}")
    base = str(json.loads((folder / ADAPTER_FILE).read_text())["base_model_name_or_path"])
    if (Path(base) / ADAPTER_FILE).is_file():
        raise ValueError(f"its base {base} is an adapter itself")
    model, tokenizer = _load_plain(base, device)
    merged: Any = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    return merged, tokenizer


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the ids of the tokens that end a text, that of the tokenizer first."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    ids = [tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    ends = tuple(dict.fromkeys(each for each in ids if each is not None))
    if not ends:
        raise ValueError("it has no token that ends a text")
    return ends


def _render(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message]) -> str:
    """Apply the model's chat template, with reasoning switched off; models without it ignore the switch."""
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    try:
        return str(tokenizer.apply_chat_template(list(turns), **options))
    except TemplateError:  # some forms have no place for the system
        system, first, *rest = turns
        question = first | {"content": f"{system['content']}\n\n{first['content']}"}
        return str(tokenizer.apply_chat_template([question, *rest], **options))
