"""Options and helpers that commands share: models, settings, seeds, and output files."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from ip2p.cli import say as say
from ip2p.errors import ConfigError, InstructionError, Ip2pError, require_unicode
from ip2p.settings import (
    ALL_SETTINGS,
    PRESETS,
    EditSettings,
    GenerationSettings,
    SamplingSettings,
    Setting,
    require_known,
    settings_of,
    with_preset,
)

if TYPE_CHECKING:
    from ip2p.editing.editor import Editor
    from ip2p.models.backbone import Backbone

BUNDLED_EDITOR = "storybook-editor"
BUNDLED_BASE = "storybook-base"
PHOTO_EDITOR = "timbrooks/instruct-pix2pix"

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="PNG, JPEG or WebP; named by its seed if not given.", rich_help_panel="Output"),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed draws the same picture.", rich_help_panel="Edit")
]
Samples = Annotated[
    int, typer.Option(min=1, max=64, help="Pictures to draw, each from a seed of its own.", rich_help_panel="Edit")
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="fp32, bf16, fp16, or auto (measured); if not given, fp16 on an NVIDIA GPU and fp32 elsewhere.",
        rich_help_panel="Quality and speed",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Sampling setting by name, e.g. reuse=2.", hidden=True),
]
Negative = Annotated[
    str | None, typer.Option("--negative-prompt", help="What the picture should not show.", rich_help_panel="Edit")
]
Frame = Annotated[
    int | None, typer.Option(help="Frame of an animation, or page of a TIFF, from 0.", rich_help_panel="Picture")
]
TrainingConfig = Annotated[
    str | None, typer.Option("--config", help="YAML file, or the name of one that comes with ip2p.")
]
ModelConfig = Annotated[
    str | None,
    typer.Option(
        "--config", help="For a single file: folder or hub id with configs and tokenizer.", rich_help_panel="Model"
    ),
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read .ckpt and other pickles, weights only.", rich_help_panel="Model")
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="ema or raw, for a model that has both kinds of weights; ema if not given.",
        rich_help_panel="Model",
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that override the config.")
]


_FLAGS = {name: setting.flags[0] for name, setting in ALL_SETTINGS.items()}
_FLAGS |= {"compiled": "--compile", "out": "--output"}


def with_flags(error: Ip2pError) -> str:
    """Format an error with command-line options in place of the library's arguments."""
    what, fix = error.what, error.fix
    for name in error.arguments:
        flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
        where = "^" if len(error.arguments) == 1 else ""  # further on there may be a path with the same word in it
        what = re.sub(rf"{where}\b{name}=", f"{flag} ", re.sub(rf"{where}\b(?<!-){name}\b(?!=)", flag, what))
        fix = re.sub(rf"(?<![\w.-]){name}\b(=True\b)?", flag, fix)
    return str(type(error)(what, fix))


def require_alone(context: Any, name: str) -> None:
    """Refuse all other options beside one with which they do nothing.

    Args:
        context: context of the command.
        name: name of the parameter of that option.

    Raises:
        ConfigError: another one is given.
    """
    others = [str(each.name) for each in context.command.params if each.name != name]
    flag = next(each.opts[0] for each in context.command.params if each.name == name)
    refuse_unused(context, False, f"beside {flag}", *others)


def refuse_unused(context: Any, used: bool, why: str, *names: str) -> None:
    """Refuse options that do nothing as the others are.

    Args:
        context: context of the command.
        used: whether they do something.
        why: end of a sentence that says why not, such as "without --keep-best".
        names: names of the parameters of these options.

    Raises:
        ConfigError: one of them is given another value than its default, and not used.
    """
    options = {str(each.name): each for each in context.command.params}

    def changes(name: str) -> bool:
        source, option = context.get_parameter_source(name), options[name]
        default = option.process_value(context, option.get_default(context))
        return bool(source and source.name == "COMMANDLINE" and context.params.get(name) != default)

    given = [] if used else [options[name].opts[0] for name in names if changes(name)]
    if given:
        told = ", ".join(given)
        raise ConfigError(f"{told} would do nothing {why}", f"Leave out {told}")


def refuse_empty(text: str, what: str, example: str) -> None:
    """Refuse an empty text, or one that is not UTF-8, before any model is loaded.

    Raises:
        InstructionError: the text is either.
    """
    require_unicode(text, what)
    if not text.strip():
        raise InstructionError(f"the {what} is empty", f'Write one, such as "{example}"')


def sampling_options(
    kind: type[SamplingSettings], *, without: Sequence[str] = (), names_preset: bool = False
) -> Callable[..., dict[str, Any]]:
    """Make a function whose options are the settings of a class, a preset, and --set; it returns the given ones.

    Args:
        kind: class of the settings.
        without: names of settings that get no option.
        names_preset: whether it returns the name of the preset, as `preset`, and not what the preset sets.

    Raises:
        ConfigError: raised by the function: a setting is unknown or out of range, or there is no such preset.
    """
    shown = {name: setting for name, setting in settings_of(kind).items() if name not in without}

    def collect(preset: str | None = None, more: Sequence[str] | None = None, **given: Any) -> dict[str, Any]:
        options = {name: value for name, value in given.items() if value is not None}
        for word in more or ():
            name, equals, value = word.partition("=")
            if not equals:
                raise ConfigError(f"--set {word!r} sets nothing", "Give a name and a value, such as tolerance=0.1")
            options[name] = value
        require_known(kind, options)
        merged = with_preset(kind, preset, options)
        checked = kind(**merged)
        values = {name: getattr(checked, name) for name in (options if names_preset else merged)}
        return values | ({"preset": preset} if names_preset else {})

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("preset", keyword, default=None, annotation=_preset_option(kind))]
    parameters += [
        inspect.Parameter(name, keyword, default=None, annotation=_option(kind, name, setting))
        for name, setting in shown.items()
    ]
    parameters.append(inspect.Parameter("more", keyword, default=None, annotation=Set))
    vars(collect)["__signature__"] = inspect.Signature(parameters)
    return collect


def _preset_option(kind: type[SamplingSettings]) -> Any:
    """Make the annotation for the option of presets, whose figures are those of edits."""
    edits = kind is EditSettings
    told = [f"{name} ({preset.summary})" if edits else name for name, preset in PRESETS.items()]
    help = f"Settings that go together: {', '.join(told)}; see docs/editing.md."
    return Annotated[str | None, typer.Option(help=help, rich_help_panel="Quality and speed")]


def _option(kind: type[SamplingSettings], name: str, setting: Setting) -> Any:
    """Make the annotation for the typer option of a setting; ranges are checked by the settings class."""
    annotation = kind.model_fields[name].annotation
    bounded = any(hasattr(each, side) for each in kind.model_fields[name].metadata for side in ("ge", "gt"))
    help = f"{setting.help} [{setting.allowed}]" if bounded else setting.help
    basic = next((each for each in (bool, int, float) if annotation in (each, each | None)), str)
    flags = [f"{flag}/--no-{flag[2:]}" for flag in setting.flags] if basic is bool else setting.flags
    return Annotated[
        basic | None,
        typer.Option(*flags, help=help, rich_help_panel=setting.group),
    ]


def compose(**makers: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command: a parameter is replaced by the options of the function that makes its value.

        @app.command()
        @compose(editor=choose_editor)
        def edit(image: ..., *, editor: ModelChoice) -> None: ...

    Args:
        makers: functions by the names of the parameters, which come last and have no defaults.
    """
    options = {name: inspect.signature(make, eval_str=True).parameters for name, make in makers.items()}

    def compose(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**given: Any) -> Any:
            made = {name: make(**{each: given.pop(each) for each in options[name]}) for name, make in makers.items()}
            return command(**given, **made)

        own = [
            each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name not in makers
        ]
        every = [*own, *(each for group in options.values() for each in group.values())]
        keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in every]
        vars(run)["__signature__"] = inspect.Signature(keywords)
        run.__annotations__ = {each.name: each.annotation for each in every}
        return run

    return compose


def say_weights(weights: str | None) -> None:
    """Say which weights of a model are used, if it has several."""
    if weights:
        which = "moving average of the model's" if weights == "ema" else "model's raw"
        say(f"using the {which} weights (--weights {weights})")


LOADING = {
    "precision": None, "decoder": None, "compiled": False, "config": None, "weights": None, "safety_checker": True,
    "vae_tiling": False,
}  # fmt: skip
"""Options of loading that pictures depend on, with their defaults."""


class ModelChoice(NamedTuple):
    """A model that is not loaded yet.

    Args:
        model: name of the model.
        options: options of `ip2p.models.inference.load_for_inference`.
    """

    model: str
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the model, with those of its adapters and decoder."""
        options = self.options
        added = [*options["loras"], *map(str, options["embeddings"]), *filter(None, [options["decoder"]])]
        added += ["raw weights"] if options["weights"] == "raw" else []
        return " + ".join([self.model, *added])

    def load(self, want: Literal["base", "editor"]) -> "Backbone":
        """Load the model.

        Raises:
            ModelError: the model is missing or of another kind, or an adapter does not fit it.
            ConfigError: this machine does not support an option.
        """
        from ip2p.models.inference import load_for_inference
        from ip2p.models.lora import Lora

        loras = [Lora.parse(text) for text in self.options["loras"]]
        backbone = load_for_inference(self.model, want=want, **{**self.options, "loras": loras})
        say_weights(backbone.weights)
        return backbone

    def fingerprint(self) -> str:
        """Tell the files of the model, those that are added to it, and the options of loading from others.

        Raises:
            ModelError: one of them is not there.
        """
        from ip2p.models.hashes import fingerprint_model
        from ip2p.models.lora import Lora
        from ip2p.models.lora_layouts import PEFT_FILE
        from ip2p.shards import fingerprint

        options = self.options
        added = [*(Lora.parse(text).path for text in options["loras"]), *options["embeddings"]]
        beside = [path.with_name(PEFT_FILE) for path in added]
        added += [path for path in beside if path.is_file()]
        folders = [Path(options[name]) for name in ("decoder", "config") if options[name]]
        added += [folder for folder in folders if folder.exists()]
        given = {name: str(options[name]) for name in LOADING if options[name] != LOADING[name]}
        files = [fingerprint_model(each)[:16] for each in (self.model, *added)]
        return "-".join([*files, *([fingerprint(given)] if given else [])])

    def load_editor(self) -> "Editor":
        """Load the model as an editor, see `load`."""
        from ip2p.editing.editor import Editor

        return Editor(self.load("editor"))


def choose_editor(
    model: Annotated[
        str,
        typer.Option(help="Bundled name, folder, .safetensors file or hub id of an editor.", rich_help_panel="Model"),
    ] = BUNDLED_EDITOR,
    precision: Precision = None,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="FILE[:SCALE]", help="LoRA weights to add.", rich_help_panel="Model")
    ] = None,
    embedding: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Embedding of a word (textual inversion).", rich_help_panel="Model"),
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            help="Small decoder for speed: folder or hub id, such as madebyollin/taesd.",
            rich_help_panel="Quality and speed",
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Faster edits, after a minute or more.", rich_help_panel="Quality and speed"),
    ] = False,
    config: ModelConfig = None,
    weights: Weights = None,
    allow_pickle: AllowPickle = False,
    safety_checker: Annotated[
        bool, typer.Option(help="Use the model's safety checker, if it has one.", rich_help_panel="Model")
    ] = True,
    cpu_offload: Annotated[
        bool, typer.Option("--cpu-offload", help="Less GPU memory, slower.", rich_help_panel="Quality and speed")
    ] = False,
    vae_tiling: Annotated[
        bool, typer.Option("--vae-tiling", help="Less memory for large pictures.", rich_help_panel="Quality and speed")
    ] = False,
) -> ModelChoice:
    """Choose an editor by command-line options."""
    options = {
        "precision": precision, "loras": lora or [], "embeddings": embedding or [], "decoder": decoder,
        "compiled": compiled, "config": config, "weights": weights, "allow_pickle": allow_pickle,
        "safety_checker": safety_checker, "cpu_offload": cpu_offload, "vae_tiling": vae_tiling,
    }  # fmt: skip
    return ModelChoice(model, options)


def choose_base(**given: Any) -> ModelChoice:
    """Choose a text-to-image model by command-line options, the same as for an editor."""
    return choose_editor(**given)


_BASE_MODEL = Annotated[
    str,
    typer.Option(
        help="Bundled name, folder, .safetensors file or hub id of a text-to-image model.", rich_help_panel="Model"
    ),
]
vars(choose_base)["__signature__"] = inspect.Signature(
    [
        each.replace(annotation=_BASE_MODEL, default=BUNDLED_BASE) if each.name == "model" else each
        for each in inspect.signature(choose_editor, eval_str=True).parameters.values()
    ]
)
editing_options = sampling_options(EditSettings)
options_of_rows = sampling_options(EditSettings, names_preset=True)
options_but_scales = sampling_options(EditSettings, without=("text_scale", "image_scale"))
generation_options = sampling_options(GenerationSettings, without=("strength",))
