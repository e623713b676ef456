"""What every reader of scans hands out: a scan that can be opened anywhere, and what is in it. Reads nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.scene.items import QaItem

ROUTE_TASK = "route_planning"


@dataclass(frozen=True, eq=False)
class Content:
    """What is in a scan.

    Args:
        graph: its objects and frames; graph.dataset and graph.scene_id are those of the Scan. graph.video_path does not
            matter, the question set decides where its videos are.
        video: a video file or a folder of images, None where there is none. Under the folder given to Scan.load it is
            moved to the question set, elsewhere it is linked or copied.
        items: routes, which a reader makes itself; rejected: how many of their candidates fell for which reason.
        asked: another graph for single tasks, by name of task: where a video shows less than a question needs, the
            reader leaves out there what cannot be asked.
    """

    graph: SceneGraph
    video: Path | None = None
    items: tuple[QaItem, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    asked: Mapping[str, SceneGraph] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scan:
    """One scan, not opened yet.

    Args:
        dataset: the collection it is from, such as `scannet`.
        scene_id: its name there.
        open: given an empty folder for what it has to write, returns the Content; a function of a module, or a
            functools.partial of one, so that another process can call it. Raises ValueError, KeyError, OSError or
            EOFError where the scan is damaged; the message, in one line, becomes the reason why it was skipped.
        skipped: why it cannot be used, "" where nothing is known to be wrong. With a reason, open may be None.
    """

    dataset: str
    scene_id: str
    open: Callable[[Path], Content] | None = None
    skipped: str = ""

    def __post_init__(self):
        if self.open is None and not self.skipped:
            raise ValueError(f"scan {self.name!r} needs a function to open it, or the reason why it is skipped")

    @property
    def name(self) -> str:
        """Dataset and scene id, unique in a question set."""
        return f"{self.dataset}/{self.scene_id}"

    def load(self, folder: Path) -> Content:
        """Opens the scan.

        Args:
            folder: empty, for what has to be written on the way.

        Raises:
            ValueError, KeyError, OSError, EOFError: the scan is damaged, or skipped.
        """
        if self.skipped or self.open is None:
            raise ValueError(self.skipped)
        return self.open(folder)
