"""How figures look on paper: sizes, inks, marks, and labels that keep out of each other's way."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from peftstudy.files import whole
from peftstudy.report.views import NothingToDraw

TALLEST = 8.3
"""Inches; what paper/report.tex leaves of a page above a caption."""
LETTER = 0.057
"""Inches that a letter of a panel's title takes, on the average."""
ACROSS = 4
"""So many panels stand side by side; the next ones below them."""
TEXT_WIDTH = 6.0
"""Inches; paper/report.tex sets the same, so that no figure is scaled."""

STYLE = {
    "font.family": "STIXGeneral", "mathtext.fontset": "stix", "font.size": 8, "axes.titlesize": 8,
    "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
    "axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5, "xtick.minor.width": 0.3,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.minor.size": 1.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "0.92", "grid.linewidth": 0.5,
    "axes.axisbelow": True, "lines.linewidth": 1.0, "pdf.fonttype": 42, "svg.hashsalt": "peftstudy",
}  # fmt: skip

# Okabe and Ito's palette for marks; as text on white its lighter colours need darker inks.
MARKS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F"]
INKS = ["#00517F", "#A84A00", "#006B4F", "#99497A", "#8F6200", "#1F6F9C", "#000000", "#5F4A12"]
DASHES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)), (0, (1, 2)), (0, (3, 1, 1, 1))]
SHAPES = ["o", "s", "^", "D", "v", "p", "X", "h", "<", ">"]
GREY = "0.45"


class Look(NamedTuple):
    """How one method is drawn wherever it appears."""

    colour: str
    ink: str
    dashes: str | tuple
    shape: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """Return the look of each name, by its place: the same in all figures, told apart without colour too."""
    return {
        name: Look(MARKS[i % 8], INKS[i % 8], DASHES[(i + i // 8) % 8], SHAPES[i % 10]) for i, name in enumerate(names)
    }


@contextmanager
def style(**changes) -> Iterator[None]:
    """Draw in the report's style; `changes` are settings of matplotlib that are to be otherwise."""
    with mpl.rc_context(), mpl.rc_context(STYLE | changes):
        yield


def panels(rows: int, columns: int, height: float, **shared) -> tuple[Figure, np.ndarray]:
    """Return a figure as wide as the text, and its axes, shape (rows, columns).

    height: inches of a row, or as many as a page has room for.
    Raises NothingToDraw where no backbone, or no split, is asked for.
    """
    if not rows or not columns:
        raise NothingToDraw("the study asks for no such runs")
    figure = Figure(figsize=(TEXT_WIDTH, min(height * rows + 0.25, TALLEST)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.03)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def across(count: int) -> int:
    """Return how many of so many panels stand side by side: at most ACROSS, and as many in each row.

    >>> [across(count) for count in (1, 4, 5, 20)]
    [1, 4, 3, 4]
    """
    return -(-count // -(-count // ACROSS)) if count else 0


def entitle(axes: Axes, text: str, **placed) -> None:
    """Give a panel its title, in two lines where it is longer than one of so many panels side by side."""
    is_long = len(text) * LETTER > TEXT_WIDTH / axes.get_subplotspec().get_geometry()[1]
    axes.set_title(text.replace(", ", "\n", 1) if is_long else text, loc="left", **placed)


def one_each(names: Sequence[str], height: float, label: str) -> tuple[Figure, list[tuple[Axes, str]]]:
    """Return a figure and its panels, one for each name, which share y; label: what y is."""
    wide = across(len(names))
    figure, axes = panels(-(-len(names) // max(wide, 1)), wide, height, sharey=True)
    for here in axes.flat[len(names) :]:
        here.set_axis_off()
    for row in axes:
        row[0].set_ylabel(label)
    return figure, list(zip(axes.flat, names, strict=False))


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PDF, whole or not at all; the same figure gives the same bytes."""
    with whole(path) as temporary, style():
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})


def seeds_and_mean(
    axes: Axes, xs, ys, mean: tuple[float, float], look: Look, place: str, seeds: Sequence[int], bounds=None,
    across: bool = False,
) -> None:  # fmt: skip
    """Draw each seed as an open dot and the mean filled, with its interval along y (along x if `across`).

    place: dataset/split/backbone/method. seeds: one for each dot. By these a drawing for the screen links its marks.
    """
    runs = " ".join(f"{place}/seed-{seed}" for seed in seeds)
    axes.plot(xs, ys, "o", mfc="none", mec=look.colour, mew=0.5, ms=3.2, ls="none", zorder=4, gid="seeds", url=runs)
    if bounds is not None and not np.isnan(bounds).any():
        ends = ([bounds[0], bounds[1]], [mean[1]] * 2) if across else ([mean[0]] * 2, [bounds[0], bounds[1]])
        axes.plot(*ends, "-", color=look.colour, lw=1, solid_capstyle="butt", zorder=3)
    axes.plot(*mean, look.shape, color=look.colour, ms=4.5, mec="white", mew=0.4, zorder=5, gid="mean", url=place)


def fit(axes: Iterable[Axes], axis: str, values: Sequence[float]) -> None:
    """Make panels hold `values` along `axis` ("x" or "y"): a wide interval is cut, not allowed to squeeze all."""
    values = np.asarray(values, dtype=float)
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.06 * (high - low) or 0.05
    for here in axes:
        here.set(**{f"{axis}lim": (low - room, high + room)})


def logarithmic(axes: Axes, values: Sequence[float], ticks: Sequence[float] | None = None) -> None:
    """Make x logarithmic with room for `values`, and a few round ticks written as plain numbers."""
    values = np.asarray(values, dtype=float)
    low, high = values.min(), values.max()
    room = max((high / low) ** 0.1, 1.04)
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    if ticks is None:
        decades = range(int(np.floor(np.log10(low / room))), int(np.ceil(np.log10(high * room))))
        for steps in ([1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7], np.arange(2, 20) / 2, np.arange(10, 100) / 10):
            ticks = [step * 10.0**decade for decade in decades for step in steps]
            ticks = [tick for tick in ticks if low / room <= tick <= high * room]
            if len(ticks) >= 3:
                break
        ticks = ticks[:: -(-len(ticks) // 7)]
    axes.set_xticks(ticks, [plain(tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def plain(number: float) -> str:
    """Return a number as it is written on an axis.

    >>> [plain(x) for x in (0.5, 20, 4860, 10000, 1500000)]
    ['0.5', '20', '4,860', '10k', '1.5M']
    """
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= 10 * 1e3 and number >= size and round(number / size, 1) == number / size:
            return f"{number / size:g}{unit}"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def spread(wanted: Sequence[float], gap: float) -> np.ndarray:
    """Return positions at least `gap` apart, in the wanted order, as near to the wanted ones as may be.

    Neighbours that are too close become a block around their common mean (pool adjacent violators).

    >>> spread([0.0, 0.1, 5.0], 1.0).tolist()
    [-0.45, 0.55, 5.0]
    """
    order = np.argsort(wanted, kind="stable")
    blocks: list[list[float]] = []
    for place, value in enumerate(np.asarray(wanted, dtype=float)[order]):
        blocks.append([value - place * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value, count = blocks.pop()
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + value * count) / (blocks[-1][1] + count),
                          blocks[-1][1] + count]  # fmt: skip
    placed = np.repeat([value for value, _ in blocks], [int(count) for _, count in blocks])
    positions = np.empty(len(order))
    positions[order] = placed + gap * np.arange(len(order))
    return positions


Label = tuple[float, float, str, str]
"""What a name is written at, in data units, and the name: x, y, text, ink."""


def label_ends(figure: Figure, ends: Mapping[Axes, Sequence[Label]], size: float = 7) -> None:
    """Write a name beside the right end of each line, moved apart where they would collide.

    ends: those of each panel, whose limits must be final. Lays the figure out.
    """
    figure.draw_without_rendering()
    for axes, here in ends.items():
        _label_ends(axes, here, size)


def _label_ends(axes: Axes, ends: Sequence[Label], size: float) -> None:
    height = axes.get_window_extent().height / axes.figure.dpi * 72
    low, high = axes.get_ylim()
    gap = (high - low) * (size + 1.0) / height
    places = spread([end[1] for end in ends], gap)
    shift = min(max(low + gap / 2 - places.min(), 0), max(high - places.max(), 0)) - max(places.max() - high, 0)
    right = max(end[0] for end in ends)
    for (x, y, text, ink), place in zip(ends, places + shift, strict=True):
        axes.annotate(
            text, (x, y), xytext=(1.035, place), textcoords=axes.get_yaxis_transform(), color=ink, fontsize=size,
            va="center", ha="left", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": ink, "lw": 0.35, "shrinkA": 0, "shrinkB": 1.5},
        )  # fmt: skip
    axes.set_xlim(right=right if axes.get_xscale() == "linear" else right * 1.02)


def label_points(figure: Figure, points: Mapping[Axes, Sequence[Label]], size: float = 7) -> None:
    """Write a name beside each point, at the first of many places that hides no mark and no other name.

    points: those of each panel. Lays the figure out, so everything else must be drawn before.
    """
    figure.draw_without_rendering()
    for axes, here in points.items():
        _label_points(axes, here, size)


def _label_points(axes: Axes, points: Sequence[Label], size: float) -> None:
    figure = axes.figure
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    frame = axes.get_window_extent(renderer)
    lines = [line.get_xydata() for line in axes.get_lines() if line.get_gid() != "baseline"]
    marks = axes.transData.transform(np.vstack(lines))
    taken: list[tuple[float, float, float, float]] = []
    for x, y, text, ink in sorted(points, key=lambda point: (-point[1], point[2])):
        label = axes.annotate(text, (x, y), xytext=(0, 0), textcoords="offset points", color=ink, fontsize=size)
        label.set_in_layout(False)
        width, height = label.get_window_extent(renderer).size
        at = axes.transData.transform((x, y))
        best = min(_places(width / scale, height / scale), key=lambda place: _cost(place, at, (width, height), scale,
                                                                                 taken, marks, frame))  # fmt: skip
        label.set_position(best[:2])
        left, bottom = at + np.array(best[:2]) * scale
        taken.append((left, bottom, left + width, bottom + height))
        if best[2] > 1:
            axes.annotate(
                "", (x, y), xytext=(best[0] + width / scale / 2, best[1] + height / scale / 2),
                textcoords="offset points", zorder=2,
                arrowprops={"arrowstyle": "-", "color": ink, "lw": 0.35, "shrinkA": size * 0.6, "shrinkB": 3},
            )  # fmt: skip


def _places(width: float, height: float) -> list[tuple[float, float, int]]:
    """Offsets in points of a label's lower left corner from its point, and the ring that each is in."""
    return [
        (dx * (4 * ring + 1) - width / 2 + dx * width / 2, dy * (5 * ring) - height / 2 + dy * height / 2, ring)
        for ring in range(1, 6)
        for dx, dy in [(1, 0), (-1, 0), *product((1, -1, 0), (1, -1))]
    ]


def _cost(place, at, size, scale, taken, marks, frame) -> float:
    left, bottom = at + np.array(place[:2]) * scale
    right, top = left + size[0], bottom + size[1]
    names = sum(left < r + 2 and l < right + 2 and bottom < t and b < top for l, b, r, t in taken)  # noqa: E741
    inside = (marks[:, 0] > left - 2) & (marks[:, 0] < right + 2) & (marks[:, 1] > bottom - 1) & (marks[:, 1] < top + 1)
    outside = left < frame.x0 or right > frame.x1 + 3 * scale or bottom < frame.y0 or top > frame.y1 + 4 * scale
    return 100 * names + 10 * inside.sum() + 300 * outside + place[2]
