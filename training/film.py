"""Films the clips of a pre-training run and ends: `python -m training.film vision|geometry [--field value ...]`.

training.pretrain films by itself; this is for several runs that shall share clips and start with all of them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from training.pretraining.settings import parse_pretrain


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns 0, 2 where it cannot be, 130 where it was interrupted: what is filmed stays."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    from training.pretraining.clips import ClipCache, clip_settings

    try:
        config = parse_pretrain(words)
        cache = ClipCache.open(Path(config.clips), clip_settings(config, config.sizes))
        learned = cache.fill(config.first_flat, config.flats, workers=config.workers)
        held_out = cache.fill(config.first_held_out, config.held_out_flats, workers=config.workers)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{len(learned):,} clips to learn from and {len(held_out):,} to measure on, in {cache.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
