"""`python -m training.pretrain vision|geometry [--field value ...]`: small encoders from simulated flats.

First vision, then geometry on top of it; geometry's folder then holds both encoders and a model to train further.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from training.pretraining.settings import parse_pretrain
from vlm3r_core.cpu import share_cores


def main(words: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        0 when the run is finished, 128 + the signal that ended it, 2 where it could not begin or go on.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    share_cores()
    # torch comes after the threads are set
    from training.pretraining.session import run_pretraining
    from training.running.processes import Processes

    processes = None
    try:
        config = parse_pretrain(words)
        processes = Processes.join(config.device)
        if not processes.leads:
            logging.getLogger().setLevel(logging.WARNING)
        progress, finished = run_pretraining(config, processes)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if processes:
            processes.leave()
    if processes.leads and finished:
        print(f"{progress.step} steps in {progress.seconds / 60:.1f} min; encoders in {config.run_dir}/encoders")
        for name, value in progress.scores.items():
            print(f"  {name:24s} {value:.4g}")
    elif processes.leads:
        print(f"stopped after step {progress.step}, which is saved; start the same command again to go on")
    return 128 + progress.signal if progress.signal and not finished else 0


if __name__ == "__main__":
    sys.exit(main())
