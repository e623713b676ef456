"""What a question set is made with, and how it is written down so that a run can be resumed. Makes no question."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from training.scans.scan import ROUTE_TASK
from vlm3r_core.config import check_range
from vlm3r_core.scene.tasks import TASKS, GeneratorSettings, expand_tasks


@dataclass(frozen=True)
class QaSettings:
    """Everything the bytes of a question set depend on, besides the scans.

    Args:
        tasks: names or sets of tasks, see expand_tasks; `route_planning` keeps the routes a reader brings, and is in
            `all` and `vsi`.
        seed: same seed, same questions.
        generator: how questions are made.
        balance: answers that are few fixed words, and letters, are made equally frequent over the whole set; never with
            generator.as_published.
        blind_proof: questions whose answer their texts give away are left out, see blindproof.py.
        pictures: sample pictures of each task on the statistics page.

    Raises:
        ValueError: no such task, or a number out of range.
    """

    tasks: tuple[str, ...] = ("all",)
    seed: int = 0
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    balance: bool = True
    blind_proof: bool = False
    pictures: int = 2

    def __post_init__(self):
        check_range("QaSettings.seed", self.seed, 0)
        check_range("QaSettings.pictures", self.pictures, 0, 1000)
        routes = not {"all", "vsi", ROUTE_TASK}.isdisjoint(self.tasks)
        named = tuple(name for name in self.tasks if name != ROUTE_TASK)
        object.__setattr__(self, "tasks", (*expand_tasks(named), *((ROUTE_TASK,) if routes else ())))

    @property
    def generated(self) -> tuple[str, ...]:
        """The tasks made from scene graphs; routes come from readers."""
        return tuple(task for task in self.tasks if task in TASKS)

    @property
    def balanced(self) -> bool:
        """Whether answers and letters are balanced over the set."""
        return self.balance and not self.generator.as_published

    def to_json(self) -> dict:
        """As plain names, numbers and lists."""
        values = asdict(self)
        values["tasks"] = list(self.tasks)
        values["generator"]["caps"] = [list(pair) for pair in self.generator.caps]
        return values
