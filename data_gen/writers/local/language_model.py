"""Local language models: loaded from a folder, the hub, a GGUF file or an adapter, and prompted in their own form."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.import_utils import is_gguf_available

from ip2p.data_gen.triples.proposals import Message
from ip2p.data_gen.writers.prompts import messages
from ip2p.errors import ModelError, one_line
from ip2p.models.loading import load_whole, quiet
from ip2p.remote.reply_text import opens_thought

PROMPT_FILE = "writer.json"
"""Beside the weights of a fine-tuned writer: how it wants to be asked."""

ADAPTER_FILE = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
THOUGHT_START = "<think>"
"""Placeholder for any mark by which a chat template opens a thought."""


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

    @property
    def opening(self) -> str:
        """Start of every answer that is part of the prompt: some chat templates open a thought there."""
        if self.form:
            return self.form.opening
        if not self.tokenizer.chat_template:
            return ""
        prompt = _render(self.tokenizer, messages("", 1, []))
        return THOUGHT_START if opens_thought(prompt) else ""

    def encode(self, turns: Sequence[Message]) -> list[int]:
        """Encode a request as token ids, in the chat template of the model."""
        turns = [turn | {"content": escape_special_tokens(turn["content"], self.tokenizer)} for turn in turns]
        if self.tokenizer.chat_template and not self.form:
            text = _render(self.tokenizer, turns)
            return list(self.tokenizer(text, add_special_tokens=False).input_ids)  # the template has the special ones
        return list(self.tokenizer(turns[0]["content"] if self.form else to_plain_text(turns)).input_ids)


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
