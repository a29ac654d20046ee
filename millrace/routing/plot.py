"""The cost/quality curve as an SVG, drawn by hand: five lines and some text need no library."""

from collections.abc import Sequence

from millrace.routing.apgr import Point

_WIDTH, _HEIGHT, _MARGIN = 480, 360, 56
_INK, _FAINT, _CURVE = "#333", "#bbb", "#0a6ebd"


def svg(points: Sequence[Point], apgr: float) -> str:
    """Gap recovered over the share of large calls; the straight line is random routing."""
    curve = " ".join(f"{_x(p.strong_share):.1f},{_y(p.recovered):.1f}" for p in points)
    ticks = "".join(_tick(tenths / 10) for tenths in range(0, 11, 2))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="{_INK}"><rect width="100%" height="100%" fill="white"/>{ticks}'
        f'<polyline points="{_x(0)},{_y(0)} {_x(1)},{_y(1)}" fill="none" stroke="{_FAINT}" stroke-dasharray="4"/>'
        f'<polyline points="{curve}" fill="none" stroke="{_CURVE}" stroke-width="2"/>'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 12}" text-anchor="middle">share of calls to the large model</text>'
        f'<text x="{_x(0)}" y="28">gap recovered · APGR {apgr:.3f}, random 0.500</text></svg>\n'
    )


def _tick(share: float) -> str:
    return (
        f'<text x="{_x(share):.0f}" y="{_HEIGHT - 34}" text-anchor="middle">{share:.0%}</text>'
        f'<text x="{_MARGIN - 8}" y="{_y(share) + 4:.0f}" text-anchor="end">{share:.0%}</text>'
        f'<line x1="{_x(0)}" x2="{_x(1)}" y1="{_y(share):.0f}" y2="{_y(share):.0f}" stroke="{_FAINT}" '
        'stroke-width="0.5"/>'
    )


def _x(share: float) -> float:
    return _MARGIN + share * (_WIDTH - 1.5 * _MARGIN)


def _y(recovered: float) -> float:
    return _HEIGHT - _MARGIN - recovered * (_HEIGHT - 2 * _MARGIN)
