"""Looks for the routes that were asked for in one world. Decides no mix of classes and writes no files."""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from sim.camera import CameraSettings, camera_pose
from sim.env import Env
from sim.route.draft import Draft, Stop, shape_flaw, sight_flaw, turn_flaw
from sim.route.item import LETTERS, RouteItem
from sim.route.landmarks import Sight
from sim.route.settings import RouteSettings
from sim.route.ways import Ways
from sim.world.geodesic import path_length
from vlm3r_core.answer import turns_text
from vlm3r_core.scene.questions import route_question
from vlm3r_core.types import RouteStepKind

# Walks of a class that are looked into at the same place, for variety.
_WALKS_A_PLACE = 2
# Ways on from a second turn that are looked into.
_WAYS_ON = 3


@dataclass(frozen=True)
class Slot:
    """A question wanted: its class and its letter are fixed before a walk is looked for.

    Args:
        number: its place in the set.
        template: 1 or 2.
        turns: the true turns.
        options: what to choose from, without letters, the true one among them.
    """

    number: int
    template: int
    turns: tuple[RouteStepKind, ...]
    options: tuple[str, ...]

    @property
    def cell(self) -> tuple[int, tuple[RouteStepKind, ...]]:
        """What a walk must be to fill it."""
        return self.template, self.turns


@dataclass
class Found:
    """What a search gave.

    Args:
        items: by slot number.
        open_slots: not filled.
        rejected: how often what kept a walk from being a route.
        places: turning places tried.
    """

    items: dict[int, RouteItem] = field(default_factory=dict)
    open_slots: list[Slot] = field(default_factory=list)
    rejected: Counter = field(default_factory=Counter)
    places: int = 0


def find_routes(
    env: Env,
    slots: Sequence[Slot],
    seed: int,
    settings: RouteSettings | None = None,
    *,
    known: frozenset[str] = frozenset(),
    round_number: int = 0,
    on_found: Callable[[], object] = lambda: None,
) -> Found:
    """Fills slots with routes of one world until all are full or patience ends.

    Args:
        env: the world.
        slots: what is wanted.
        seed: same seed, same routes.
        settings: the rules.
        known: texts of questions of this scene that are not wanted again; round_number is to differ between searches
            of one set in one world.
        on_found: called after every route.
    """
    return _Search(env, seed, settings or RouteSettings(), known, round_number).fill(slots, on_found)


class _Search:
    def __init__(self, env: Env, seed: int, settings: RouteSettings, known: frozenset[str], round_number: int):
        self._env, self._seed, self._settings = env, seed, settings
        self._rng = np.random.default_rng((seed, zlib.crc32(env.scene_id.encode()), round_number))
        self._sight = Sight(env, settings)
        self._texts = set(known)
        self._found = Found()
        self._open: dict[tuple, deque[Slot]] = {}
        self._last_place = 0
        self._ways = Ways(env, settings, self._rng, self._found.rejected)

    def fill(self, slots: Sequence[Slot], on_found: Callable[[], object]) -> Found:
        for slot in slots:
            self._open.setdefault(slot.cell, deque()).append(slot)
        for draft in self._drafts():
            points = self._walked(draft)
            if points is not None:
                slot = self._open[self._cell(draft)].popleft()
                self._found.items[slot.number] = self._item(draft, points, slot)
                self._last_place = self._found.places
                on_found()
        self._found.open_slots = sorted((s for left in self._open.values() for s in left), key=lambda s: s.number)
        return self._found

    def _cell(self, draft: Draft) -> tuple:
        return draft.template, draft.kinds(self._settings)

    def _drafts(self) -> Iterator[Draft]:
        """Wanted walks whose shape is right, some of every turning place, until all is found or patience ends."""
        settings, rejected = self._settings, self._found.rejected
        if len(self._ways.landmarks) < settings.turns + 2:
            rejected[f"{len(self._ways.landmarks)} landmarks one can stand at, a route needs {settings.turns + 2}"] += 1
            return
        while any(self._open.values()) and self._found.places - self._last_place < settings.patience:
            self._found.places += 1
            taken = Counter()
            drafts = list(self._drafts_at(self._ways.draw_stop()))
            for index in self._rng.permutation(len(drafts)).tolist():
                draft, cell = drafts[index], self._cell(drafts[index])
                wanted = bool(self._open.get(cell)) and taken[cell] < _WALKS_A_PLACE
                flaw = turn_flaw(cell[1]) or (shape_flaw(draft, settings) if wanted else "its class is full here")
                if flaw:
                    rejected[flaw] += 1
                else:
                    taken[cell] += 1
                    yield draft

    def _drafts_at(self, hub: Stop) -> Iterator[Draft]:
        """All walks that turn first at a stop."""
        around = self._ways.onward(hub)
        for first, chain in product(around, list(self._chains(around, self._settings.turns))):
            if chain[0] is not first:
                yield Draft(1, (first, hub, *chain), hub.landmark)
        if self._settings.turns == 1:
            faced = self._ways.ahead(hub)
            yield from (Draft(2, (hub, goal), landmark) for goal in around for landmark in faced)

    def _chains(self, around: list[Stop], count: int) -> Iterator[list[Stop]]:
        """Walks over a number of stops that begin at one of some stops."""
        if count == 1:
            yield from ([stop] for stop in around)
            return
        for index in self._rng.permutation(len(around))[:_WAYS_ON].tolist():
            for rest in self._chains(self._ways.onward(around[index]), count - 1):
                yield [around[index], *rest]

    def _walked(self, draft: Draft) -> np.ndarray | None:
        """The waypoints of a walk that is wanted; None, and the reason counted, where it is not good enough."""
        text, points = _question(draft), None
        flaw = "asked before" if text in self._texts else ""
        if not flaw:
            points, flaw = self._ways.waypoints(draft.stops)
        flaw = flaw or sight_flaw(draft, self._sight)
        if flaw:
            self._found.rejected[flaw] += 1
            return None
        self._texts.add(text)
        return points

    def _item(self, draft: Draft, points: np.ndarray, slot: Slot) -> RouteItem:
        marks = [stop.landmark for stop in draft.stops]
        facing, start = draft.faced, draft.stops[0].feet
        ahead = facing.center - start
        camera = CameraSettings(height_m=self._settings.camera_height_m)
        options = tuple(f"{letter}. {text}" for letter, text in zip(LETTERS, slot.options, strict=False))
        return RouteItem(
            id=f"{self._env.scene_id}-route-{self._seed}-{slot.number:04d}",
            scene=self._env.scene_id,
            seed=self._seed,
            template=draft.template,
            question=_question(draft),
            options=options,
            answer=LETTERS[slot.options.index(turns_text(slot.turns))],
            turns=slot.turns,
            start=marks[0].name,
            facing=facing.name,
            goal=marks[-1].name,
            via=tuple(mark.name for mark in marks[1:-1]),
            start_id=marks[0].object_id,
            facing_id=facing.object_id,
            goal_id=marks[-1].object_id,
            via_ids=tuple(mark.object_id for mark in marks[1:-1]),
            T_WC_start=camera_pose(start, float(np.arctan2(ahead[1], ahead[0])), camera),
            stops=np.stack([stop.feet for stop in draft.stops]),
            waypoints=points,
            turns_rad=tuple(draft.turns_of_way()),
            geodesic_m=path_length(points),
        )


def _question(draft: Draft) -> str:
    names = [stop.landmark.name for stop in draft.stops]
    return route_question(names[0], draft.faced.name, names[-1], names[1:-1]).text
