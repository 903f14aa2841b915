"""A surface that turns, beside the cuts along its two directions.

matplotlib's own 3-D axes take too long for a slider.  Here the grid is turned by hand, and all
quadrilaterals are one collection, drawn from back to front.
"""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from allora_lab.plots.style import lab_style

ORANGE, BLUE = "#D55E00", "#0072B2"
LIFT = 0.1  # by which the two coloured lines are drawn nearer than the cells they lie on
HEIGHT = 1.3  # of the surface, where half the side of its base is 1


def project(points: np.ndarray, azimuth: float, elevation: float) -> np.ndarray:
    """Return screen x, screen y and depth (far is large) of points (..., 3), seen without perspective.

    `azimuth` turns the base and `elevation` tips it towards the reader, both in degrees: 0 looks
    along the base, 90 down on it.
    """
    a, e = np.radians([azimuth, elevation])
    x, y, z = np.moveaxis(points, -1, 0)
    back = x * np.sin(a) + y * np.cos(a)
    return np.stack(
        [
            x * np.cos(a) - y * np.sin(a),
            z * np.cos(e) + back * np.sin(e),
            back * np.cos(e) - z * np.sin(e),
        ],
        axis=-1,
    )


def quadrilaterals(grid: np.ndarray) -> np.ndarray:
    """Return the corners (k - 1)² x 4 x 3 of the cells of a grid of points (k, k, 3)."""
    corners = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
    return np.stack(corners, axis=2).reshape(-1, 4, grid.shape[-1])


class LandscapeDrawing:
    """A figure drawn once; `update` turns it or puts another surface in."""

    def __init__(self) -> None:
        with lab_style():
            self.figure = Figure(figsize=(10, 4.6))
            self._prepare_surface(self.figure.add_axes((0.0, 0.0, 0.58, 1.0)))
            self._prepare_cuts(self.figure.add_axes((0.67, 0.14, 0.31, 0.74)))

    def _prepare_surface(self, axes: Axes) -> None:
        axes.set_axis_off()
        axes.set_xlim(-2.2, 2.2)  # the same units across as up
        axes.set_ylim(-1.5, 2.0)
        (self._base,) = axes.plot([], [], color="#999999", lw=0.8)
        self._cells = PolyCollection([])
        axes.add_collection(self._cells)
        (self._here,) = axes.plot([], [], "o", color="black", ms=7)

    def _prepare_cuts(self, axes: Axes) -> None:
        self._axes = axes
        self._cuts = [axes.plot([], [], color=c, lw=2)[0] for c in (ORANGE, BLUE)]
        self._tangents = [axes.plot([], [], color=c, lw=1, ls=":")[0] for c in (ORANGE, BLUE)]
        (self._start,) = axes.plot([], [], "o", color="black", ms=7)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(xlabel="step from the black point", ylabel="L")
        self._title = axes.set_title("")
        place = {"transform": axes.transAxes, "ha": "center", "va": "top"}
        self._names = [
            axes.text(0.5, y, "", color=c, **place) for y, c in ((0.98, BLUE), (0.89, ORANGE))
        ][::-1]

    def update(
        self,
        steps: np.ndarray,
        losses: np.ndarray,
        *,
        slopes: Sequence[float],
        names: Sequence[str],
        azimuth: float,
        elevation: float,
        title: str,
    ) -> Figure:
        """Show losses (k, k), rows along the first direction, seen from the given angles in degrees."""
        self._draw_surface(losses, azimuth, elevation)
        for text, name in zip(self._names, names, strict=True):
            text.set_text(name)
        self._draw_cuts(steps, losses, slopes)
        self._title.set_text(title)
        return self.figure

    def _draw_surface(self, losses: np.ndarray, azimuth: float, elevation: float) -> None:
        k = len(losses)
        x, y = np.meshgrid(np.linspace(-1, 1, k), np.linspace(-1, 1, k), indexing="ij")
        z = losses / losses.max()
        seen = project(np.stack([x, y, HEIGHT * z], axis=-1), azimuth, elevation)
        cells, middle = quadrilaterals(seen), k // 2
        along = np.stack([seen[:-1, middle], seen[1:, middle]], axis=1)
        across = np.stack([seen[middle, :-1], seen[middle, 1:]], axis=1)
        lines = np.concatenate([along, across])  # 2(k - 1) x 2 x 3
        far = np.concatenate([cells[..., 2].mean(1), lines[..., 2].mean(1) - LIFT])
        faces = mpl.colormaps["Greys"](0.15 + 0.6 * quadrilaterals(z[..., None]).mean((1, 2)))
        colours = np.concatenate([faces, np.repeat(to_rgba_array([ORANGE, BLUE]), k - 1, axis=0)])
        edges = colours.copy()
        edges[: len(cells)] = 1  # white
        widths = np.repeat([0.4, 2.5], [len(cells), len(lines)])
        polygons, order = [*cells[..., :2], *lines[..., :2]], np.argsort(-far)
        self._cells.set_verts([polygons[i] for i in order])
        self._cells.set(facecolor=colours[order], edgecolor=edges[order], linewidth=widths[order])
        self._here.set_data(*seen[middle, middle, :2, None])
        square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0], [-1, -1, 0]], float)
        self._base.set_data(*project(square, azimuth, elevation)[:, :2].T)

    def _draw_cuts(self, steps: np.ndarray, losses: np.ndarray, slopes: Sequence[float]) -> None:
        middle = len(steps) // 2
        here = losses[middle, middle]
        reach = steps[-1] / 3 * np.array([-1, 1])
        cuts = losses[:, middle], losses[middle]
        for line, tangent, cut, slope in zip(self._cuts, self._tangents, cuts, slopes, strict=True):
            line.set_data(steps, cut)
            tangent.set_data(reach, here + slope * reach)
        self._start.set_data([0], [here])
        top = max(cut.max() for cut in cuts)
        self._axes.set_xlim(steps[0], steps[-1])
        self._axes.set_ylim(-0.05 * top, 1.05 * top)
