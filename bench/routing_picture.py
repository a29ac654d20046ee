"""Right answers over cost, as an SVG: each way of routing is a spot, random routing the line between the two models."""

from collections.abc import Sequence
from typing import NamedTuple

from millrace.routing.apgr import Point

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 560, 380, 60, 34, 120, 52
_INK, _FAINT, _SPOT, _CURVE = "#333", "#bbb", "#c0392b", "#0a6ebd"


class Spot(NamedTuple):
    way: str
    cost: float  # of always-large
    right: float  # share of answers


def picture(curve: Sequence[Point], spots: Sequence[Spot]) -> str:
    """`curve` is what `route eval` promises at each share of what the large model costs more."""
    small, large = (next(spot for spot in spots if spot.way == f"always-{model}") for model in ("small", "large"))
    frame = _Frame(min(spot.right for spot in spots) - 0.01, max(spot.right for spot in spots) + 0.01)
    promised = [(small.cost + p.strong_share * (large.cost - small.cost), p.quality) for p in curve]
    line = " ".join(f"{frame.x(cost):.1f},{frame.y(right):.1f}" for cost, right in promised)
    ends = f"{frame.x(small.cost):.1f},{frame.y(small.right):.1f} {frame.x(large.cost):.1f},{frame.y(large.right):.1f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="{_INK}"><rect width="100%" height="100%" fill="white"/>{frame.ticks()}'
        f'<polyline points="{ends}" fill="none" stroke="{_FAINT}" stroke-dasharray="4"/>'
        f'<polyline points="{line}" fill="none" stroke="{_CURVE}" stroke-width="1.5"/>'
        f"{''.join(frame.spot(spot) for spot in spots)}"
        f'<text x="{_LEFT}" y="20">right answers over what was computed; the line: what route eval promises</text>'
        f'<text x="{_WIDTH / 2 - 30}" y="{_HEIGHT - 12}" text-anchor="middle">cost, always-large = 100 %</text></svg>\n'
    )


class _Frame(NamedTuple):
    low: float
    high: float

    def x(self, cost: float) -> float:
        return _LEFT + min(cost, 1.1) / 1.1 * (_WIDTH - _LEFT - _RIGHT)

    def y(self, right: float) -> float:
        return _TOP + (self.high - right) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)

    def spot(self, spot: Spot) -> str:
        x, y = self.x(spot.cost), self.y(spot.right)
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_SPOT}"/>'
        return f'{dot}<text x="{x + 8:.1f}" y="{y + 4:.1f}">{spot.way}</text>'

    def ticks(self) -> str:
        costs = "".join(
            f'<text x="{self.x(tenth / 10):.0f}" y="{_HEIGHT - 32}" text-anchor="middle">{tenth * 10} %</text>'
            for tenth in range(0, 11, 2)
        )
        steps = [self.low + (self.high - self.low) * fifth / 5 for fifth in range(6)]
        return costs + "".join(
            f'<text x="{_LEFT - 8}" y="{self.y(step) + 4:.0f}" text-anchor="end">{step:.1%}</text>'
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{self.y(step):.0f}" y2="{self.y(step):.0f}" '
            f'stroke="{_FAINT}" stroke-width="0.5"/>'
            for step in steps
        )
