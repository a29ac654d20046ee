"""Weighted ridge regression over sparse rows, by conjugate gradients. No library: the same bits on every machine.

Minimises Σ w (y - b - x·v)² + penalty · |v|², with b free.
"""

from collections.abc import Sequence

Sparse = list[tuple[int, float]]  # index, value
_ENOUGH = 1e-6  # of the first residual's square
_MOST_STEPS = 60


def ridge(rows: Sequence[Sparse], targets: Sequence[float], weights: Sequence[float], penalty: float) -> list[float]:
    """The coefficients; as many as the highest index needs."""
    size = 1 + max((index for row in rows for index, _ in row), default=-1)
    total = sum(weights)
    mean = sum(w * y for w, y in zip(weights, targets, strict=True)) / total
    residual = _transposed(rows, [w * (y - mean) for w, y in zip(weights, targets, strict=True)], size)
    centre = [value / total for value in _transposed(rows, weights, size)]
    found, direction, square = [0.0] * size, residual[:], _dot(residual, residual)
    enough = square * _ENOUGH
    for _ in range(_MOST_STEPS):
        if square <= enough:
            break
        image = _normal(rows, weights, centre, direction, penalty)
        step = square / _dot(direction, image)
        found = [x + step * d for x, d in zip(found, direction, strict=True)]
        residual = [r - step * i for r, i in zip(residual, image, strict=True)]
        before, square = square, _dot(residual, residual)
        direction = [r + square / before * d for r, d in zip(residual, direction, strict=True)]
    return found


def _normal(
    rows: Sequence[Sparse], weights: Sequence[float], centre: list[float], vector: list[float], penalty: float
) -> list[float]:
    """(Xᵀ W X + penalty) · vector, X with its weighted mean taken off."""
    shift = _dot(centre, vector)
    image = [w * (sum(value * vector[n] for n, value in row) - shift) for w, row in zip(weights, rows, strict=True)]
    total = sum(image)
    back = _transposed(rows, image, len(vector))
    return [b - c * total + penalty * v for b, c, v in zip(back, centre, vector, strict=True)]


def _transposed(rows: Sequence[Sparse], factors: Sequence[float], size: int) -> list[float]:
    found = [0.0] * size
    for row, factor in zip(rows, factors, strict=True):
        for index, value in row:
            found[index] += factor * value
    return found


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
