"""Agents of a trial: each takes a Trial and then gives an action for every TimeStep. They open no world.

oracle: answers its own questions truthfully and exactly (sim/loop/oracle.py); words: truthfully, but says no more than
a model can, which is the ceiling over models; engine: asks the model, in process; ros: asks the node over its services.
These differ in who answers only: the controller that drives them is the same (sim/loop/controller.py). random and
forward ask nothing; they are the floor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from sim.env import Action, Move, TimeStep
from sim.loop.controller import Controller, ControllerSettings, Motion
from sim.loop.oracle import Oracle, TruthInWords
from sim.loop.queries import Asker, Query, Reply
from sim.loop.trial import Agent, Trial
from vlm3r_core.config import StreamConfig, check_choice, check_settings, setting
from vlm3r_core.types import Answer, Frame, Route

# between two pictures of a look around, as the small model is trained
LOOK_AROUND_DEG = 20.0
# questions in the turn after it, and from where on the last drive may begin: its bearing is known less well
VOTES, NEAR_M = 4, 1.2
AGENTS = ("oracle", "words", "random", "forward", "engine", "ros")


@dataclass(frozen=True)
class AgentSettings:
    """Who acts, and how."""

    agent: str = setting("oracle", "who acts", choices=AGENTS)
    model: str = setting("tiny", "model spec of the engine")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N, of the engine")
    node: str = setting("/vlm3r/spatial_qa", "full name of the node that the ros agent asks")
    node_timeout_s: float = setting(120.0, "how long the node may take to appear and to answer", span=(0.1, 3600.0))
    session_frames: int = setting(
        -1,
        "newest frames that a question is about, in a session begun anew; 0: all of the episode's in one session; -1: "
        "as many as the engine's model was trained with, if that is known",
        span=(-1, 1024),
    )
    look_every: int = setting(
        4, "actions between frames while driving; before questions there is always one", span=(1, 1000)
    )
    stop_share: float = setting(0.02, "share of STOP among the random agent's actions", span=(0.0, 1.0))
    controller: ControllerSettings = field(default_factory=ControllerSettings)

    def __post_init__(self):
        check_settings(self)


def make_agent(settings: AgentSettings) -> Agent:
    """The agent that settings name.

    Raises:
        ValueError: a setting is wrong, or the model spec is unknown.
        FileNotFoundError: a model's file is missing.
        ImportError: the ros agent needs rclpy and this project's messages.
        TimeoutError: the node is not there.
    """
    check_choice("agent", settings.agent, AGENTS)
    if settings.agent == "random":
        return RandomAgent(settings.stop_share)
    if settings.agent == "forward":
        return ForwardAgent()
    if settings.agent == "oracle":
        return AskingAgent(Oracle, settings)
    if settings.agent == "words":
        return AskingAgent(TruthInWords, settings)
    if settings.agent == "engine":
        return _engine_agent(settings)
    client, settings = _ros_client(settings), _suited(settings, 0)
    return AskingAgent(lambda trial: ModelAsker(client, settings.session_frames), settings, client.close)


class RandomAgent:
    """Goes ahead or turns either way with equal chance, and stops now and then."""

    def __init__(self, stop_share: float):
        self._stop_share = stop_share

    def reset(self, trial: Trial) -> None:
        """Seeds the draws by the episode."""
        self._rng = np.random.default_rng((trial.episode.seed, 2))

    def act(self, now: TimeStep) -> Action:
        """A draw."""
        if self._rng.random() < self._stop_share:
            return Move.STOP
        return (Move.FORWARD, Move.TURN_LEFT, Move.TURN_RIGHT)[self._rng.integers(3)]

    def close(self) -> None:
        """Holds nothing."""


class ForwardAgent:
    """Goes ahead until it bumps into something, and stops."""

    def reset(self, trial: Trial) -> None:
        """Needs nothing."""

    def act(self, now: TimeStep) -> Action:
        """FORWARD until a collision."""
        return Move.STOP if now.collided else Move.FORWARD

    def close(self) -> None:
        """Holds nothing."""


class AskingAgent:
    """Watches, asks, and lets the controller drive by the answers.

    Args:
        asker_of: who answers in a trial.
        settings: of the controller, and how often to look.
        close: gives back what the askers share.
    """

    def __init__(
        self, asker_of: Callable[[Trial], Asker], settings: AgentSettings, close: Callable[[], None] = lambda: None
    ):
        self._asker_of, self._settings, self._close = asker_of, settings, close
        self._motion: Motion | None = None

    def reset(self, trial: Trial) -> None:
        """Watches the walk; the first questions come with the first action."""
        self._trial, self._asker, self._motion = trial, self._asker_of(trial), None
        for frame in trial.watch():
            self._asker.push(frame)

    def act(self, now: TimeStep) -> Action:
        """The controller's next action, STOP after its last."""
        try:
            if self._motion is None:
                self._motion = Controller(self._trial, self._asker, self._settings.controller).motion()
                return next(self._motion)
            if self._asker.sees and now.steps % self._settings.look_every == 0:
                self._asker.push(self._trial.look())
            return self._motion.send(now)
        except StopIteration:
            return Move.STOP

    def close(self) -> None:
        """Gives back what the askers share."""
        self._close()


class Model(Protocol):
    """What StreamEngine and the client of the node's services have in common."""

    def reset(self) -> None:
        """Forgets everything seen."""

    def push(self, frame: Frame) -> object:
        """Takes the next frame."""

    def ask(self, question: str, options: tuple[str, ...] = (), answer_type: str = "auto") -> Answer:
        """Answers a question."""

    def plan_route(self, start: str = "", facing: str = "", goal: str = "", via: tuple[str, ...] = ()) -> Route:
        """Says which way to turn along a route."""


class ModelAsker:
    """An Asker that puts questions to a model; it starts with nothing seen.

    Args:
        model: who answers.
        session_frames: newest frames that are shown, in a session begun anew for each moment of asking; 0: every frame
            as it comes, in one session.
    """

    sees = True

    def __init__(self, model: Model, session_frames: int = 0):
        self._model, self._stamp_ns = model, -1
        self._waiting: deque[Frame] = deque(maxlen=session_frames)
        self._shown_ns = -1
        model.reset()

    def push(self, frame: Frame) -> None:
        """Shows a frame; the same moment is shown once."""
        if frame.stamp_ns == self._stamp_ns:
            return
        self._stamp_ns = frame.stamp_ns
        if self._waiting.maxlen:
            self._waiting.append(frame)
        else:
            self._model.push(frame)

    def answer(self, query: Query) -> Reply:
        """The model's words; it adds nothing to them."""
        self._show()
        return Reply(self._model.ask(query.text, query.options, query.answer_type))

    def route(self, query: Query) -> Route:
        """The model's route."""
        self._show()
        start, facing, goal, *via = query.way
        return self._model.plan_route(start, facing, goal, tuple(via))

    def _show(self) -> None:
        """The newest frames in a session of their own, unless the model has just seen them."""
        if self._waiting and self._shown_ns != self._stamp_ns:
            self._model.reset()
            for frame in self._waiting:
                self._model.push(frame)
            self._shown_ns = self._stamp_ns


def _engine_agent(settings: AgentSettings) -> AskingAgent:
    from vlm3r_core import StreamEngine, load  # the agents that ask no model need no torch

    engine = StreamEngine(load(settings.model, device=settings.device), StreamConfig())
    settings = _suited(settings, engine.model.config.trained_frames)
    return AskingAgent(lambda trial: ModelAsker(engine, settings.session_frames), settings)


def _suited(settings: AgentSettings, trained_frames: int) -> AgentSettings:
    """A model that was trained with few frames looks around as in its training, and is shown each part of a turn."""
    frames = trained_frames if settings.session_frames < 0 else settings.session_frames
    controller = settings.controller
    if frames and not controller.look_around:
        part_deg = min(controller.turn_part_deg, LOOK_AROUND_DEG)
        own = {} if controller.votes else {"votes": VOTES, "near_m": NEAR_M}
        controller = replace(controller, look_around=frames, turn_part_deg=part_deg, **own)
    every = 1 if frames else settings.look_every
    return replace(settings, session_frames=frames, look_every=every, controller=controller)


def _ros_client(settings: AgentSettings):
    from sim.ros_bridge import NodeClient  # only there ROS is imported

    return NodeClient(settings.node, settings.node_timeout_s)
