"""Groups of options that several commands have: which editor and how it is loaded, and how it samples."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ip2p.cli.options import (
    BUNDLED_EDITOR,
    AllowPickle,
    ModelConfig,
    Precision,
    Preset,
    Resolution,
    Scheduler,
    Set,
    Steps,
    sampling,
    say,
)

if TYPE_CHECKING:
    from ip2p.editor import Editor


def composed(**parts: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command have, in place of a parameter, the options of the function that makes its value.

        @app.command()
        @composed(editor=chosen_editor)
        def edit(image: ..., *, editor: ChosenEditor) -> None: ...

    Args:
        parts: such functions by the names of the parameters, which stand last and have no defaults.
    """
    options = {name: inspect.signature(part, eval_str=True).parameters for name, part in parts.items()}

    def compose(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**given: Any) -> Any:
            made = {name: part(**{each: given.pop(each) for each in options[name]}) for name, part in parts.items()}
            return command(**given, **made)

        own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name not in parts]
        every = [*own, *(each for group in options.values() for each in group.values())]
        keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in every]
        vars(run)["__signature__"] = inspect.Signature(keywords)
        run.__annotations__ = {each.name: each.annotation for each in every}
        return run

    return compose


class ChosenEditor(NamedTuple):
    """An editor that is not loaded yet: its name, and what `Editor.from_pretrained` is told besides."""

    model: str
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the model, with what changes what it draws."""
        options = self.options
        added = [*options["loras"], *map(str, options["embeddings"]), *filter(None, [options["decoder"]])]
        return " + ".join([self.model, *added])

    def load(self) -> "Editor":
        """The editor.

        Raises:
            ModelError: it is not there, or it or a file for it does not fit.
            ConfigError: this machine cannot do what is asked for.
        """
        from ip2p.adapters import Lora
        from ip2p.editor import Editor

        loras = [Lora.parse(text) for text in self.options["loras"]]
        return Editor.from_pretrained(self.model, **{**self.options, "loras": loras}, report=say)


def chosen_editor(
    model: Annotated[
        str, typer.Option(help="Bundled name, folder, .safetensors file or hub id of an editor.")
    ] = BUNDLED_EDITOR,
    precision: Precision = None,
    lora: Annotated[list[str] | None, typer.Option(metavar="FILE[:SCALE]", help="LoRA weights to add.")] = None,
    embedding: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A word by textual inversion.")] = None,
    decoder: Annotated[
        str | None, typer.Option(help="Small decoder for speed: folder or hub id, such as madebyollin/taesd.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Faster edits, after a minute or more.")] = False,
    config: ModelConfig = None,
    allow_pickle: AllowPickle = False,
    safety_checker: Annotated[bool, typer.Option(help="Use the one that the model brings, if it brings one.")] = True,
    cpu_offload: Annotated[bool, typer.Option("--cpu-offload", help="Less GPU memory, slower.")] = False,
    vae_tiling: Annotated[bool, typer.Option("--vae-tiling", help="Less memory for large pictures.")] = False,
) -> ChosenEditor:
    """An editor by the options of a command line."""
    options = {
        "precision": precision, "loras": lora or [], "embeddings": embedding or [], "decoder": decoder,
        "compiled": compiled, "config": config, "allow_pickle": allow_pickle, "safety_checker": safety_checker,
        "cpu_offload": cpu_offload, "vae_tiling": vae_tiling,
    }  # fmt: skip
    return ChosenEditor(model, options)


def sampler_settings(
    steps: Steps = None,
    scheduler: Scheduler = None,
    resolution: Resolution = None,
    preset: Preset = None,
    more: Set = None,
) -> dict[str, Any]:
    """Settings of sampling, without the scales.

    Raises:
        ConfigError: one is not known, or out of range.
    """
    return sampling(preset, more, steps=steps, scheduler=scheduler, resolution=resolution)


@composed(settings=sampler_settings)
def all_settings(
    text_scale: Annotated[
        float | None, typer.Option("--text-scale", "--cfg-text", help="How strongly to edit; e.g. 7.5.")
    ] = None,
    image_scale: Annotated[
        float | None, typer.Option("--image-scale", "--cfg-image", help="How much to keep; e.g. 1.5.")
    ] = None,
    *,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Settings of sampling with both scales.

    Raises:
        ConfigError: one is not known, or out of range.
    """
    return settings | sampling(None, None, text_scale=text_scale, image_scale=image_scale)
