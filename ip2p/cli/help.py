"""Help texts: options in named groups, and every key of a config with its default and meaning."""

import json
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from typer.core import TyperCommand

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from typer import Context as Context
else:
    Context = TyperCommand.context_class  # what commands are given, of which typer.Context is a subclass

PANELS = ("Picture", "Edit", "Quality and speed", "Model", "Data", "Methods", "Measures", "Output")
"""Groups of options in the order of display."""


class GroupedCommand(TyperCommand):
    """A command whose help shows options in groups, on a terminal and in plain text."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments and options, sorted by group."""
        return sorted(super().get_params(ctx), key=_place)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the groups as plain text; on a terminal typer draws them itself."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                groups.setdefault(panel_of(parameter), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def panel_of(parameter: Any) -> str:
    """The group of an argument or option."""
    usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
    return getattr(parameter, "rich_help_panel", None) or usual


def _place(parameter: Any) -> int:
    """Sort key of a parameter: arguments first, options without a group last."""
    if parameter.param_type_name == "argument":
        return -1
    panel = panel_of(parameter)
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


def command_of(load: "Callable[[], type[BaseModel]]") -> type[GroupedCommand]:
    """Make a class of commands whose help ends with the keys of a config.

    Args:
        load: function that imports the config class; it is called when help is shown.
    """

    class ConfigCommand(GroupedCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            super().format_help(ctx, formatter)
            if self.rich_markup_mode:
                return _draw_keys(key_groups(load()))
            for group in key_groups(load()):
                with formatter.section(group.title):
                    formatter.write_dl([(key.setting, key.explanation) for key in group.keys], col_max=40)

    return ConfigCommand


class Key(NamedTuple):
    """A key of a config in a help text."""

    name: str
    type: str
    default: str
    meaning: str

    @property
    def setting(self) -> str:
        """The key with its default, as on the command line."""
        return f"{self.name}={self.default}"

    @property
    def explanation(self) -> str:
        """The meaning of the key, and its type."""
        return f"{self.meaning} ({self.type})"


class KeyGroup(NamedTuple):
    """The keys of one config class."""

    prefix: str
    about: str
    keys: list[Key]

    @property
    def title(self) -> str:
        """The heading of the group."""
        return f"Keys of {self.prefix}" if self.prefix else "Keys"


def key_groups(config: "type[BaseModel]", prefix: str = "") -> list[KeyGroup]:
    """List the keys of a config: its own first, then those of nested configs in the order of the class."""
    from pydantic import BaseModel

    own: list[Key] = []
    nested: list[KeyGroup] = []
    for name, field in config.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            nested += key_groups(kind, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else _in_yaml(field.default)
        own.append(Key(f"{prefix}{name}", _type_of(field), default, field.description or ""))
        inner = get_args(kind)[-1] if get_origin(kind) is dict else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            nested += key_groups(inner, f"{prefix}{name}.NAME.")
    about = (config.__doc__ or "").strip().partition("\n")[0]
    return [KeyGroup(prefix.rstrip("."), about, own), *nested]


def _in_yaml(value: Any) -> str:
    """Format a value in YAML, as in a config file or after `key=`."""
    return value if isinstance(value, str) and value else json.dumps(value)


def _type_of(field: "FieldInfo") -> str:
    """The type of a field with its bounds, such as "int, >= 1"."""
    signs: Mapping[str, str] = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [
        f"{sign} {getattr(each, name):g}"
        for each in field.metadata
        for name, sign in signs.items()
        if getattr(each, name, None) is not None
    ]
    return ", ".join([_name_of(field.annotation), *bounds])


def _name_of(kind: Any) -> str:
    """Name a type in the terms of YAML."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " | ".join(map(_name_of, inner))
    if origin is Annotated:
        return _name_of(inner[0])
    if origin in (list, tuple):
        return f"list of {_name_of(inner[0])}"
    if origin is dict:
        return "mapping"
    return "null" if kind is NoneType else str(kind.__name__)


def _draw_keys(groups: list[KeyGroup]) -> None:
    """Print groups of keys in boxes, like those of typer around options."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for group in groups:
        table = Table.grid(padding=(0, 2))
        for key in group.keys:
            table.add_row(Text(key.setting, "bold cyan"), Text(key.explanation))
        console.print(Panel(table, title=group.title, title_align="left", border_style="dim"))
