"""Questions and answers out of scene graphs: thirteen tasks of VSI-Bench and VSTI-Bench, seeded, in a stable order."""

from vlm3r_core.scene.items import Candidate, QaItem, TaskResult
from vlm3r_core.scene.tasks.generate import candidates, generate
from vlm3r_core.scene.tasks.options import balance_answers, balance_letters
from vlm3r_core.scene.tasks.settings import (
    TASKS,
    VSI_TASKS,
    VSTI_TASKS,
    VSTI_TRAIN_CAPS,
    GeneratorSettings,
    expand_tasks,
)
from vlm3r_core.scene.tasks.truth import SceneTruth

__all__ = [
    "TASKS",
    "VSI_TASKS",
    "VSTI_TASKS",
    "VSTI_TRAIN_CAPS",
    "Candidate",
    "GeneratorSettings",
    "QaItem",
    "SceneTruth",
    "TaskResult",
    "balance_answers",
    "balance_letters",
    "candidates",
    "expand_tasks",
    "generate",
]
