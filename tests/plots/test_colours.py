"""Colours drawn together are told apart by readers who do not see red, or green, and by all others."""

import re
from itertools import combinations, product

import numpy as np
import pytest

from allora_lab.methods import METHODS
from allora_lab.panels.adaptive_rate import AdaptiveRatePanel
from allora_lab.panels.dropout_ols import DropoutOLSPanel
from allora_lab.panels.escape import EscapePanel
from allora_lab.panels.gradient_variance import GradientVariancePanel
from allora_lab.panels.hessian import HessianPanel
from allora_lab.panels.landscape import LandscapePanel
from allora_lab.panels.one_layer import OneLayerPanel
from allora_lab.panels.results import EXPERIMENTS, content_of
from allora_lab.panels.ripple import RipplePanel
from allora_lab.plots.adaptive_rate import FAMILY, WAY
from allora_lab.plots.curves import colour_of, curves_figure
from allora_lab.plots.ripple import ARCHITECTURE_COLOURS
from allora_lab.plots.style import COLOURS

# What linear red, green and blue become without the cones for red, and for green: Machado, Oliveira
# and Fernandes 2009, https://doi.org/10.1109/TVCG.2009.113, severity 1.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])
APART = 15  # in CIELAB, where 2.3 is just noticed side by side
SMALLEST = 9  # points of a letter, at a picture's own size


def lab_of(colour, vision):
    """Return a colour in CIELAB as it is seen."""
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    ratio = TO_XYZ @ np.clip(VISIONS[vision] @ linear, 0, 1) / WHITE
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one, other, vision):
    return float(np.linalg.norm(lab_of(one, vision) - lab_of(other, vision)))


def drawn_together():
    """Return sets of colours that share a picture, each with its name."""
    yield from ((f"LoRA and {m}", {COLOURS["lora"], COLOURS[m]}) for m in METHODS if m != "lora")
    yield "the family of rates", {COLOURS[key] for key in FAMILY}
    yield "the way of a row", {COLOURS[key] for key in WAY}
    yield "architectures", set(ARCHITECTURE_COLOURS.values())
    for name, experiment in EXPERIMENTS.items():
        for panel in content_of(name)["panels"] if experiment.draw is curves_figure else ():
            keys = {line["colour"] for line in panel["lines"]}
            yield f"{name}: {panel['title']}", {colour_of(key) for key in keys if type(key) is str}


def free_colours(many=5):
    """Return colours far from all that methods have, for whoever adds one; the farthest first."""
    steps = ("00", "33", "66", "99", "CC")  # no lighter: a line must be seen on white

    def nearest(colour):
        return min(distance(colour, has, vision) for has in COLOURS.values() for vision in VISIONS)

    every = map("#{0[0]}{0[1]}{0[2]}".format, product(steps, repeat=3))
    return sorted(every, key=nearest, reverse=True)[:many]


def test_a_colour_that_is_called_free_is_apart_from_every_methods():
    for free, has in product(free_colours(), COLOURS.values()):
        assert all(distance(free, has, vision) >= APART for vision in VISIONS)


def test_the_distance_knows_black_from_white_and_red_from_green():
    assert distance("#000000", "#FFFFFF", "normal") == pytest.approx(100, abs=0.1)
    red_and_green = "#CC3311", "#4D5D00"
    assert distance(*red_and_green, "normal") > 50
    assert distance(*red_and_green, "protanopia") < 12


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_drawn_together_are_apart(vision):
    near = [
        (name, *pair, round(distance(*pair, vision), 1))
        for name, colours in drawn_together()
        for pair in combinations(sorted(colours), 2)
        if distance(*pair, vision) < APART
    ]
    assert not near, f"less than {APART} apart; free are {', '.join(free_colours())}"


def test_no_two_methods_have_one_colour():
    assert METHODS.keys() == COLOURS.keys()
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize(
    "build",
    [
        *(DropoutOLSPanel, HessianPanel, LandscapePanel, RipplePanel, OneLayerPanel),
        *(AdaptiveRatePanel, lambda: EscapePanel().panel, lambda: GradientVariancePanel().panel),
    ],
)
def test_letters_are_large_enough_to_be_read_on_a_wall(build):
    sizes = re.findall(r"font-size: ([\d.]+)px", build().picture.value.decode())
    assert len(sizes) > 5
    assert min(map(float, sizes)) >= SMALLEST
