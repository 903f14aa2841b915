"""How long a panel takes to redraw when a control is moved: kernel side, every control, every value.

Each panel is built as in its notebook; every control is moved through its values and each move is
timed from the new value to the new picture and caption.  A learner should not wait for more than
50 ms.
"""

import statistics
import time
from collections.abc import Callable

from common import parse, write_figures

from allora_lab.panels.adaptive_rate import AdaptiveRatePanel
from allora_lab.panels.base import Panel
from allora_lab.panels.dropout_ols import DropoutOLSPanel
from allora_lab.panels.escape import EscapePanel
from allora_lab.panels.gradient_variance import GradientVariancePanel
from allora_lab.panels.hessian import HessianPanel
from allora_lab.panels.landscape import LandscapePanel
from allora_lab.panels.one_layer import OneLayerPanel
from allora_lab.panels.ripple import RipplePanel

PANELS: dict[str, Callable[[], Panel]] = {
    "01 dropout": DropoutOLSPanel,
    "02 Hessian": HessianPanel,
    "02 landscape": LandscapePanel,
    "03 ripple": RipplePanel,
    "04 gradient variance": lambda: GradientVariancePanel().panel,
    "05 one layer": OneLayerPanel,
    "05 adaptive rate": AdaptiveRatePanel,
    "06 escape": lambda: EscapePanel().panel,
}


def values_of(control: object) -> list[object]:
    """Return every value a slider or list of given values can take."""
    return [value for _, value in control._options_full]


def redraw_seconds(panel: Panel) -> list[float]:
    """Return the seconds of every move of every control, one control at a time."""
    seconds = []
    for control in panel.controls.values():
        start_value = control.value
        for value in [*values_of(control), start_value]:
            if value != control.value:
                start = time.perf_counter()
                control.value = value
                seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print the median, the slowest tenth and the slowest redraw of every panel."""
    options = parse(__doc__.splitlines()[0], rounds=3)
    figures, panels = {}, dict([*PANELS.items()][: 1 if options.tiny else None])
    print(f"{'panel':24}{'median':>9}{'p90':>9}{'slowest':>9}   ms a redraw")
    for name, build in panels.items():
        panel = build()
        redraw_seconds(panel)  # warm-up: fonts are measured and records read once
        seconds = [s for _ in range(options.rounds) for s in redraw_seconds(panel)]
        ninth = statistics.quantiles(seconds, n=10)[-1]
        row = statistics.median(seconds), ninth, max(seconds)
        print(f"{name:24}" + "".join(f"{1000 * value:9.1f}" for value in row))
        figures[name] = [round(value, 6) for value in seconds]
    compared = "every move of every control of a panel, from the new value to the new picture"
    setting = {"rounds": options.rounds}
    write_figures(
        options.json,
        {"compared": compared, "unit": "seconds", "measured": figures, "setting": setting},
    )


if __name__ == "__main__":
    main()
