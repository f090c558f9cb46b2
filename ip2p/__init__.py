"""Edit pictures by instruction: `Editor.from_pretrained().edit(image, "make it winter")`.

Names are loaded on first use, so that `import ip2p` costs nothing.
"""

from typing import TYPE_CHECKING, Any

from ip2p.version import __version__

if TYPE_CHECKING:
    from ip2p.editing.editor import Edited as Edited
    from ip2p.editing.editor import Editor as Editor

__all__ = ["Edited", "Editor", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Edited", "Editor"):
        import ip2p.editing.editor

        return getattr(ip2p.editing.editor, name)
    raise AttributeError(f"module 'ip2p' has no attribute {name!r}")
