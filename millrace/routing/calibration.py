"""Platt's step: from a score of any scale to a probability, by logistic regression on one number."""

from collections.abc import Sequence
from math import exp

_STEPS = 30


def fit_logistic(scores: Sequence[float], happened: Sequence[bool]) -> tuple[float, float]:
    """(slope, bias) of P(happened) = 1 / (1 + exp(-(slope · score + bias))), by Newton's method."""
    slope, bias = 0.0, 0.0
    for _ in range(_STEPS):
        g0 = g1 = h00 = h01 = h11 = 0.0
        for score, outcome in zip(scores, happened, strict=True):
            p = 1 / (1 + exp(-max(-30.0, min(30.0, slope * score + bias))))
            error, spread = outcome - p, p * (1 - p)
            g0, g1 = g0 + error, g1 + error * score
            h00, h01, h11 = h00 + spread, h01 + spread * score, h11 + spread * score * score
        determinant = h00 * h11 - h01 * h01
        if determinant <= 1e-12:
            break
        bias += (h11 * g0 - h01 * g1) / determinant
        slope += (h00 * g1 - h01 * g0) / determinant
    return slope, bias
