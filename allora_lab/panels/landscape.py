"""Second panel of notebook 02: a slice of the landscape that the reader turns."""

from matplotlib.figure import Figure

from allora_lab.experiments.slices import slice_of
from allora_lab.panels.base import Panel, choice, menu
from allora_lab.plots.landscape import LandscapeDrawing

CURVES = ("most negative curvature", "most positive curvature")
NAMES = {"V": ("null direction", "steepest direction"), "A and B": CURVES, "toy": CURVES}


class LandscapePanel(Panel):
    """What is drawn, the scale of A, and from where it is seen."""

    def __init__(self) -> None:
        self._drawing = LandscapeDrawing()
        super().__init__(
            {
                "view": menu(
                    "landscape",
                    {
                        "(A, B) at (A, B = 0)": "A and B",
                        "V at V = 0, n < d": "V",
                        "toy (a b - 1)² at (a, 0)": "toy",
                    },
                    "A and B",
                ),
                "scale": choice("scale of A, or a", (0.0, 0.3, 1.0, 1.5), 0.0),
                "azimuth": choice("turn, degrees", tuple(range(0, 360, 15)), 30),
                "elevation": choice("tip, degrees", (0, 15, 30, 45, 60, 75, 90), 30),
            },
            self._show,
            computed_by=(slice_of,),
        )

    def _show(
        self, view: str, scale: float, azimuth: float, elevation: float
    ) -> tuple[Figure, str]:
        self.controls["scale"].disabled = view == "V"
        part, names = slice_of(view, scale), NAMES[view]
        figure = self._drawing.update(
            part.steps.numpy(),
            part.losses.numpy(),
            slopes=part.slopes,
            names=names,
            azimuth=azimuth,
            elevation=elevation,
            title=part.kind.split(":")[0].capitalize(),
        )
        along = [
            f"{name}: slope {_rounded(slope)}, curvature {_rounded(curvature)}"
            for name, slope, curvature in zip(names, part.slopes, part.curvatures, strict=True)
        ]
        return figure, (
            f"The black point is {part.kind}. L there is {part.at_point:.3g}, the whole gradient has "
            f"norm {part.gradient_norm:.3g}. Along the orange direction ({along[0]}); along the blue "
            f"one ({along[1]})."
        )


def _rounded(value: float) -> str:
    return f"{round(value, 9) + 0.0:.3g}"  # adding 0 turns -0 into 0
