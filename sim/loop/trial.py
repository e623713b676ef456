"""One running episode: the pictures an agent gets, the questions it asks, and what is true. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from sim.env import Action, Env, Observation, TimeStep
from sim.episode import Episode
from sim.loop.goal import Goal
from sim.loop.queries import Asker, Query, Reply, direction_of, direction_query, distance_query, route_query
from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.graph import SceneObject
from vlm3r_core.scene.scoring import mean_relative_accuracy
from vlm3r_core.types import Frame, Route

_START_NS = 1_000_000_000
# The benchmarks round distances to this; a truth of 0 could not be scored.
_TRUTH_STEP_M = 0.1


@dataclass(frozen=True)
class TrialSettings:
    """What counts in every trial, whoever acts."""

    watch_interval_s: float = setting(1.0, "time between frames of the walk watched", span=(0.01, 60.0))
    seen_share: float = setting(0.001, "share of a picture an object fills to count as seen", span=(0.0, 1.0))
    pictures: int = setting(12, "pictures kept of a trial", span=(0, 12))

    def __post_init__(self):
        check_settings(self)


class WalkPictures:
    """The pictures of the walk that was watched last: all episodes of a scene share one walk."""

    def __init__(self):
        self._of: tuple = ()
        self._shown: list[tuple[Frame, set[int]]] = []

    def of(self, env: Env, episode: Episode, settings: TrialSettings) -> Iterator[tuple[Frame, set[int]]]:
        """Frames of an episode's walk with the ids each shows; stamps from one second on."""
        interval_ns = round(settings.watch_interval_s * 1e9)
        wanted = (episode.scene, episode.T_WC_watch.tobytes(), settings)
        if wanted != self._of:
            self._of, self._shown = wanted, []
        for index, T_WC in enumerate(episode.T_WC_watch):
            if index == len(self._shown):
                picture = env.view(T_WC, _START_NS + index * interval_ns)
                self._shown.append((picture.frame, visible_ids(picture, settings.seen_share)))
            yield self._shown[index]


class Trial:
    """An episode under way.

    Args:
        env: its world, reset to the episode.
        episode: what it is about.
        goal: where it must end.
        now: the start.
        settings: see there.
        walk: pictures of the walk, where an earlier trial saw it already.

    `env` and `goal` are the truth: an agent other than the oracle uses watch(), look() and the questions only.
    """

    def __init__(
        self,
        env: Env,
        episode: Episode,
        goal: Goal,
        now: TimeStep,
        settings: TrialSettings,
        *,
        walk: WalkPictures | None = None,
    ):
        self.env, self.episode, self.goal, self.now, self.settings = env, episode, goal, now, settings
        self._walk = walk or WalkPictures()
        self.asked: list[dict] = []
        self.latencies_ms: list[float] = []
        self.seen: set[int] = set()
        self._rng = np.random.default_rng((episode.seed, 1))

    # ---- pictures

    def watch(self) -> Iterator[Frame]:
        """The frames of the walk watched beforehand, stamps from one second on."""
        for frame, ids in self._walk.of(self.env, self.episode, self.settings):
            self.seen |= ids
            yield frame

    def look(self) -> Frame:
        """What the robot sees now; stamps go on where the walk ended."""
        picture = self.env.observe()
        self.seen |= visible_ids(picture, self.settings.seen_share)
        walk_ns = round(len(self.episode.T_WC_watch) * self.settings.watch_interval_s * 1e9)
        return replace(picture.frame, stamp_ns=picture.frame.stamp_ns + walk_ns)

    # ---- questions: worded, put to someone, timed and scored

    def ask_route(self, asker: Asker) -> Route:
        """Asks for the turns of the episode's route."""
        start, facing, *via = self.episode.landmarks
        query = route_query(start, facing, self.episode.goal_category, via)
        before, route = self._seen_all(query.things), self._timed(lambda: asker.route(query))
        said = route.alternatives[0].text
        self._note(query, said, self.episode.turns, float(said == self.episode.turns), before)
        return route

    def ask_direction(self, asker: Asker, thing: str) -> Reply:
        """Asks on which side of the current view a thing is."""
        query = direction_query(thing, self._rng)
        truth, before = direction_of(self.now, self.the(thing).box), self._seen_all((thing,))
        reply = self._timed(lambda: asker.answer(query))
        score = float(reply.answer.text == truth)
        self._note(query, reply.answer.text, truth, score, before, said_unseen=not reply.answer.seen)
        return reply

    def ask_distance(self, asker: Asker, thing: str) -> Reply:
        """Asks how far the nearest point of a thing is from the camera."""
        query = distance_query(thing)
        truth, before = self.distance_to(self.the(thing)), self._seen_all((thing,))
        reply = self._timed(lambda: asker.answer(query))
        score = mean_relative_accuracy(reply.metres, truth)
        self._note(query, reply.answer.text, f"{truth:.1f}", score, before, said_unseen=not reply.answer.seen)
        return reply

    def distance_to(self, target: SceneObject) -> float:
        """Metres from the camera to the nearest point of an object, rounded as the benchmarks do, 0.1 at least."""
        eye = self.now.T_WC[:3, 3]
        apart = float(np.linalg.norm(target.box.nearest_point(eye) - eye))
        return max(_TRUTH_STEP_M, round(apart / _TRUTH_STEP_M) * _TRUTH_STEP_M)

    def the(self, thing: str) -> SceneObject:
        """The object that a name of the episode means; a name without an id means the one of that category.

        Raises:
            ValueError: it means none, or several.
        """
        known = dict(zip(self.episode.landmarks, self.episode.landmark_ids, strict=False))
        known |= {self.episode.goal_category: self.episode.goal_object_id}
        objects = self.env.scene_graph().objects
        if thing in known:
            found = [item for item in objects if item.instance_id == known[thing]]
        else:
            found = [item for item in objects if item.category == thing]
        if len(found) != 1:
            raise ValueError(
                f"episode {self.episode.id!r}: {thing!r} must mean one object of scene {self.episode.scene!r}, "
                f"it means {len(found)}; give the episode its landmark_ids"
            )
        return found[0]

    def _seen_all(self, things: tuple[str, ...]) -> bool:
        return all(self.the(thing).instance_id in self.seen for thing in things)

    def _timed(self, put):
        started = time.perf_counter()
        reply = put()
        self.latencies_ms.append((time.perf_counter() - started) * 1e3)
        return reply

    def _note(
        self, query: Query, answer: str, truth: str, score: float, before: bool, *, said_unseen: bool = False
    ) -> None:
        self.asked.append(
            {
                "asked": query.text,
                "kind": query.kind,
                "options": list(query.options),
                "answer": answer,
                "truth": truth,
                "score": score,
                "seen_before_answer": before,
                "said_unseen": said_unseen,
            }
        )


class Agent(Protocol):
    """Someone who acts."""

    def reset(self, trial: Trial) -> None:
        """Begins an episode; may watch the walk and ask."""

    def act(self, now: TimeStep) -> Action:
        """What to do next."""

    def close(self) -> None:
        """Gives back what it holds."""


def visible_ids(picture: Observation, share: float) -> set[int]:
    """Ids of the objects that fill at least a share of a picture."""
    ids, counts = np.unique(picture.semantic_ids, return_counts=True)
    least = max(1.0, share * picture.semantic_ids.size)
    return {int(found) for found, count in zip(ids, counts, strict=True) if found > 0 and count >= least}
