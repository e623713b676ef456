"""vlm3r: answers spatial questions about a live camera stream. Public names load lazily; importing this is cheap."""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "load": "vlm3r_core.loading",
    "tokenizer_for": "vlm3r_core.loading",
    "VLM3R": "vlm3r_core.model.vlm3r",
    "StreamEngine": "vlm3r_core.stream.engine",
    "Worker": "vlm3r_core.stream.worker",
    "Frame": "vlm3r_core.types",
    "Answer": "vlm3r_core.types",
    "Route": "vlm3r_core.types",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'vlm3r_core' has no attribute {name!r}; public names: {', '.join(_PUBLIC)}")
    return getattr(import_module(_PUBLIC[name]), name)
