"""Which readers of scans there are, and which one a root wants. Reads no scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

from training.scans import arkitscenes, scannet, scannetpp, vsi_scenes
from training.scans.scan import Scan

AUTO, SIMULATED = "auto", "simulated"
# the simulator's reader is imported where it is used, the others need no simulator
_MODULES: dict[str, ModuleType] = {
    "vsi_scenes": vsi_scenes,
    "scannet": scannet,
    "scannetpp": scannetpp,
    "arkitscenes": arkitscenes,
}
READERS = (*_MODULES, SIMULATED)
# readers of recordings; their read_scans takes seed, frames, split, as_published and what docs/scans.md lists
RECORDED = ("scannet", "scannetpp", "arkitscenes")


def reader_of(root: str) -> str:
    """The name of the one reader that knows a root.

    Raises:
        ValueError: none or several know it.
    """
    found = [name for name in READERS if _module(name).recognizes(root)] if root else []
    if len(found) != 1:
        told = f"{' and '.join(found)} both could read it" if found else "no reader knows what is there"
        raise ValueError(f"{root!r}: {told}; give --reader, one of {', '.join(READERS)}")
    return found[0]


def scans_of(reader: str, root: str, **options) -> Iterator[Scan]:
    """The scans of a root.

    Args:
        reader: one of READERS.
        root: where they are.
        options: of that reader's read_scans.
    """
    read: Callable[..., Iterator[Scan]] = _module(reader).read_scans
    return read(root, **options)


def _module(name: str) -> ModuleType:
    if name == SIMULATED:
        from training.scans import simulated

        return simulated
    return _MODULES[name]
