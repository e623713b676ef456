"""How well stated confidences agree with scores: bins and their mean distance. Draws nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.evaluation.records import Record
from vlm3r_core.scene.scoring import ACCURACY

BINS = 10


def reliability(records: Sequence[Record]) -> dict[str, dict]:
    """Bins of confidence, for choices and for numbers apart.

    Args:
        records: those without a confidence are left out.

    Returns:
        By `choices` (accuracy; confidence is the probability of the letter that was said among the options') and
        `numbers` (mean relative accuracy; confidence is the mean probability of the decoded tokens): n, ece, confidence
        and score (means in 0..1) and bins [{low, high, n, confidence, score}], empty bins left out. A kind without any
        confidence is left out.

    Source: expected calibration error over ten bins of equal width, Guo et al. 2017.
    """
    kinds = {"choices": [], "numbers": []}
    for record in records:
        if record.confidence is not None:
            kinds["choices" if record.metric == ACCURACY else "numbers"].append(record)
    return {kind: _bins(found) for kind, found in kinds.items() if found}


def _bins(records: Sequence[Record]) -> dict:
    confidence = np.array([record.confidence for record in records], np.float64)
    score = np.array([record.score for record in records], np.float64)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        chosen = place == number
        if chosen.any():
            means = {"confidence": float(confidence[chosen].mean()), "score": float(score[chosen].mean())}
            bins.append({"low": number / BINS, "high": (number + 1) / BINS, "n": int(chosen.sum())} | means)
    error = sum(part["n"] * abs(part["confidence"] - part["score"]) for part in bins) / len(records)
    means = {"confidence": float(confidence.mean()), "score": float(score.mean())}
    return {"n": len(records), "ece": float(error), **means, "bins": bins}
