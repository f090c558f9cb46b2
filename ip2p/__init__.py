"""Edit pictures by instruction: `Editor.from_pretrained().edit_one(image, "make it winter")`.

Names are loaded on first use, so that `import ip2p` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ip2p.version import __version__

if TYPE_CHECKING:
    from ip2p.diffusion.previews import Previews as Previews
    from ip2p.editing.editor import Edited as Edited
    from ip2p.editing.editor import Editor as Editor
    from ip2p.editing.generation import generate as generate
    from ip2p.editing.generation import img2img as img2img
    from ip2p.editing.sequence import edit_in_sequence as edit_in_sequence
    from ip2p.errors import BudgetError as BudgetError
    from ip2p.errors import BusyError as BusyError
    from ip2p.errors import ConfigError as ConfigError
    from ip2p.errors import DataError as DataError
    from ip2p.errors import ImageError as ImageError
    from ip2p.errors import InstructionError as InstructionError
    from ip2p.errors import Ip2pError as Ip2pError
    from ip2p.errors import ModelError as ModelError
    from ip2p.errors import TrainingError as TrainingError
    from ip2p.errors import WriterError as WriterError
    from ip2p.models.inference import load_for_inference as load_for_inference
    from ip2p.models.lora import Lora as Lora
    from ip2p.settings import EditSettings as EditSettings
    from ip2p.settings import GenerationSettings as GenerationSettings

_MODULES = {
    "ip2p.diffusion.previews": ("Previews",),
    "ip2p.editing.editor": ("Edited", "Editor"),
    "ip2p.editing.generation": ("generate", "img2img"),
    "ip2p.editing.sequence": ("edit_in_sequence",),
    "ip2p.errors": (
        "BudgetError", "BusyError", "ConfigError", "DataError", "ImageError", "InstructionError", "Ip2pError",
        "ModelError", "TrainingError", "WriterError",
    ),
    "ip2p.models.lora": ("Lora",),
    "ip2p.models.inference": ("load_for_inference",),
    "ip2p.settings": ("EditSettings", "GenerationSettings"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BudgetError", "BusyError", "ConfigError", "DataError", "EditSettings", "Edited", "Editor", "GenerationSettings",
    "ImageError", "InstructionError", "Ip2pError", "Lora", "ModelError", "Previews", "TrainingError", "WriterError",
    "__version__", "edit_in_sequence", "generate", "img2img", "load_for_inference",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'ip2p' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
