"""`python -m training.train RUN [--field value ...]`: one run, alone or under torchrun. Makes no data."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from training.config import RunConfig, parse_run
from vlm3r_core.cpu import share_cores


def main(words: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        0 when the run is finished, 128 + the signal that ended it, 2 where it could not begin or go on.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    share_cores()
    # torch comes after the threads are set
    from training.running.memory import keep_freed_memory
    from training.running.processes import Processes
    from training.running.session import describe_outcome, run_training

    processes = None
    try:
        name, config = parse_run(words)
        processes = Processes.join(config.device)
        if processes.device.type == "cpu":
            keep_freed_memory()
        if not processes.leads:
            logging.getLogger().setLevel(logging.WARNING)
        outcome = run_training(config, processes, _teachers(config))
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if processes:
            processes.leave()
    if processes.leads:
        print(describe_outcome(name, config, outcome))
    return 128 + outcome.signal if outcome.signal and not outcome.finished else 0


def _teachers(config: RunConfig) -> Callable | None:
    """What reads the teachers, which brings the simulator's catalogue along, only where they are asked for."""
    if not config.align_weight:
        return None
    from training.pretraining.teachers import load_teachers

    return load_teachers


if __name__ == "__main__":
    sys.exit(main())
