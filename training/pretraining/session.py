"""A pre-training run from its settings to its encoders. The command line: training/pretrain.py; the steps: loop.py."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

import torch

from training.pretraining.clips import ClipCache, clip_settings
from training.pretraining.encoders import load_encoders, save_encoders, save_start
from training.pretraining.geometry import Geometry
from training.pretraining.loop import PretrainRun, Progress
from training.pretraining.settings import PretrainConfig
from training.pretraining.vision import Vision
from training.running.processes import Processes
from vlm3r_core.loading import build
from vlm3r_core.model.vlm3r import VLM3R

ENCODERS, MODEL = "encoders", "model"
_OBJECTIVES = {"vision": Vision, "geometry": Geometry}
# places are nobody else's
_NOT_RECORDED = ("run_dir", "clips", "vision", "start")

_log = logging.getLogger(__name__)


def run_pretraining(config: PretrainConfig, processes: Processes) -> tuple[Progress, bool]:
    """Films what is not filmed yet, trains from the newest checkpoint or the start, and writes the encoders.

    Args:
        config: of the run, run_dir given.
        processes: of the run; the first one films.

    Returns:
        How far it came, and whether that is the end.

    Raises:
        FileNotFoundError, ValueError: settings or folders are not usable.
        FloatingPointError: training fell apart.
        OSError: the disk is full; what is there stays.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    model = start_encoders(config, processes.device)
    cache = ClipCache.open(Path(config.clips), clip_settings(config, model.config))
    quiet = {"workers": config.workers, "progress": processes.leads}
    if processes.leads:
        cache.fill(config.first_flat, config.flats, **quiet)
        cache.fill(config.first_held_out, config.held_out_flats, **quiet)
    processes.sum([0.0])  # the others wait for the clips
    clips = cache.fill(config.first_flat, config.flats, **quiet)
    held_out = cache.fill(config.first_held_out, config.held_out_flats, **quiet)
    torch.manual_seed(config.seed)
    objective = _OBJECTIVES[config.objective](model, config).to(processes.device)
    run = PretrainRun(objective, config, clips, held_out, processes)
    run.resume()
    progress = run.train()
    if processes.leads and run.finished:
        _finish(config, objective, progress)
    return progress, run.finished


def start_encoders(config: PretrainConfig, device: torch.device) -> VLM3R:
    """A model with seeded weights, the tower of `vision` and the encoders of `start`; float32, nothing learns yet.

    Raises:
        FileNotFoundError, ValueError: a folder holds no encoders that fit.
    """
    torch.manual_seed(config.seed)
    model = build(config.sizes, torch.device("cpu"), torch.float32)
    if config.vision:
        load_encoders(model, config.vision, ("siglip",))
    if config.start:
        load_encoders(model, config.start)
    return model.to(device)


def _finish(config: PretrainConfig, objective: Vision | Geometry, progress: Progress) -> None:
    """Writes encoders, and where both are there, a model that training can start from."""
    folder, model, encoder = Path(config.run_dir), objective.model, objective.encoder
    settings = {name: value for name, value in asdict(config).items() if name not in _NOT_RECORDED}
    record = {"settings": settings, "steps": progress.step, "seconds": progress.seconds, "scores": progress.scores}
    both = encoder == "cut3r" and (config.siglip_input or config.vision)
    heads = {encoder: objective.head} if objective.head is not None else {}
    save_encoders(folder / ENCODERS, model, ("siglip", "cut3r") if both else (encoder,), record, heads)
    _log.info("%s has the encoders", folder / ENCODERS)
    if both:
        save_start(folder / MODEL, folder / ENCODERS, config.model, config.seed)
        _log.info("%s is a model with them whose rest is random", folder / MODEL)
