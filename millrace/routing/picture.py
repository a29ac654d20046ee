"""The cost/quality curve as a PNG: right answers over the share of large calls."""

from collections.abc import Sequence
from pathlib import Path

from contracts.errors import ConfigError
from millrace.routing.apgr import Point

_INK, _FAINT, _CURVE = "#333333", "#bbbbbb", "#0a6ebd"


def draw_png(points: Sequence[Point], apgr: float, questions: int, path: Path) -> None:
    """Quality and the gap recovered share one curve: each is a scale of the same numbers. Raises ConfigError without
    matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to import
        from matplotlib.ticker import PercentFormatter  # noqa: PLC0415
    except ImportError:
        raise ConfigError("A PNG takes matplotlib: `pip install 'millrace[plot]'`. --svg takes nothing.") from None
    figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    shares, qualities = [p.strong_share for p in points], [p.quality for p in points]
    weak, strong = qualities[0], qualities[-1]
    axes.fill_between(shares, qualities, [weak + s * (strong - weak) for s in shares], color=_CURVE, alpha=0.12, lw=0)
    axes.plot([0, 1], [weak, strong], color=_FAINT, linestyle="--", label="random routing, APGR 0.500")
    axes.plot(shares, qualities, color=_CURVE, linewidth=2, label=f"this scorer, APGR {apgr:.3f}")
    axes.set_xlabel("share of calls to the large model")
    axes.set_ylabel("right answers")
    axes.set_title(f"{questions:,} questions: small {weak:.1%} right, large {strong:.1%}", color=_INK, fontsize=10)
    gap = axes.secondary_yaxis(
        "right", functions=(lambda q: (q - weak) / (strong - weak), lambda g: weak + g * (strong - weak))
    )
    gap.set_ylabel("gap recovered")
    for axis in (axes.xaxis, axes.yaxis, gap.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(0, 1)
    axes.grid(color=_FAINT, linewidth=0.4)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, format="png")
