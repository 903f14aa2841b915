"""Panel of notebook 06: how the rows of BA leave zero, recorded and live."""

from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allora_lab.config import RunConfig, scaled_rate
from allora_lab.experiments.demo import FOLDER, escape_config
from allora_lab.experiments.records import RunRecord, read_record, record_path
from allora_lab.experiments.runner import run
from allora_lab.methods import METHODS
from allora_lab.panels.base import choice, menu
from allora_lab.panels.live import LivePanel, LiveRun
from allora_lab.panels.recorded import RecordedPanel
from allora_lab.plots.escape import FLOORS, Curve, draw_curves
from allora_lab.plots.style import COLOURS, lab_style
from allora_lab.training.optimizers import OPTIMIZERS
from allora_lab.training.trace import measure

ETA_SQUARED = (1.0, 2.0, 4.0, 8.0, 16.0)
RANKS = (2, 4, 8, 16, 32)
DROPOUTS = (0.0, 0.05, 0.1, 0.2, 0.4)
OPTIMIZER_KEYS = ("sgd", "adamw")
SETTING = ("method", "optimizer", "eta_squared", "r", "lora_dropout")
SHOWN_METHODS = tuple(key for key, row in METHODS.items() if row.build_hook is None)


@lru_cache(maxsize=64)
def _read(path: Path, _modified: int) -> RunRecord:
    return read_record(path)


def recorded(config: RunConfig) -> RunRecord | None:
    """Return the recorded run of a configuration, or None when there is none."""
    path = record_path(FOLDER, config)
    return _read(path, path.stat().st_mtime_ns) if path.exists() else None


def setting_config(
    method: str,
    optimizer: str,
    eta_squared: float,
    r: int,
    lora_dropout: float,
    rate: float = 1.0,
    **settings: Any,
) -> RunConfig:
    """Return the run of a setting; `rate` is the square of what multiplies the learning rate."""
    return escape_config(
        optimizer,
        method=method,
        eta_squared=eta_squared if METHODS[method].reads_eta_squared else None,
        lr=scaled_rate(OPTIMIZERS[optimizer].default_lr, rate),
        r=r,
        lora_dropout=lora_dropout,
        **settings,
    )


def recorded_settings() -> frozenset[tuple[Any, ...]]:
    """Return every setting of the panel, as values of `SETTING`, that has a record."""
    folder = record_path(FOLDER, escape_config("sgd", method="lora")).parent
    return _settings_in(folder, folder.stat().st_mtime_ns) if folder.is_dir() else frozenset()


@lru_cache(maxsize=4)
def _settings_in(folder: Path, _modified: int) -> frozenset[tuple[Any, ...]]:
    there = {path.stem for path in folder.glob("*.json")}
    every = product(SHOWN_METHODS, OPTIMIZER_KEYS, ETA_SQUARED, RANKS, DROPOUTS)
    return frozenset(values for values in every if setting_config(*values).run_id in there)


def accuracy_words(record: RunRecord) -> str:
    """Return the accuracy ± half of its 95 % interval over so many sentences."""
    p, n = record.metrics["eval_accuracy"], record.config["eval_size"]
    return f"{p:.3f} ± {1.96 * (p * (1 - p) / n) ** 0.5:.3f}"


class EscapePanel(LivePanel):
    """Method, optimizer, eta_squared, r and dropout; beside it LoRA; and "Run it live".

    Every control offers what is recorded for the controls before it, so each position shows a real
    run at once.  `settings` changes what is run (fewer steps, say); such runs are not recorded, so
    every position is offered and only live runs are drawn.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self._figure, self._scale = Figure(figsize=(8.6, 4.0)), ""
        self.live = LiveRun(self._config_now, self._on_live)
        found = () if settings else recorded_settings()
        self.panel = RecordedPanel(
            self._controls(), self._draw, found, SETTING, computed_by=(measure, run)
        )
        super().__init__()

    def _config_now(self) -> RunConfig:
        values = self.panel.values()
        values.pop("axis")
        return self.config(**values)

    @staticmethod
    def _controls() -> dict[str, widgets.Widget]:
        methods = {METHODS[key].label: key for key in SHOWN_METHODS}
        optimizers = {OPTIMIZERS[key].label: key for key in OPTIMIZER_KEYS}
        return {
            "method": menu("method", methods, "allora"),
            "optimizer": menu("optimizer", optimizers, "sgd"),
            "eta_squared": choice("η²", [(f"{e:g}", e) for e in ETA_SQUARED], 4.0),
            "r": choice("rank r", RANKS, 8),
            "lora_dropout": choice("LoRA dropout", DROPOUTS, 0.0),
            "axis": menu(
                "axes", {"logarithmic: ratios": "log", "linear: the escape": "linear"}, "log"
            ),
        }

    def config(self, **values: Any) -> RunConfig:
        """Return the run of a setting, changed as `settings` say; see `setting_config`."""
        return setting_config(**values, **self.settings)

    def _draw(self, axis: str, **values: Any) -> tuple[Figure, str]:
        self.panel_controls_follow(values["method"])
        config = self.config(**values)
        lora = {**values, "method": "lora"}
        slow = recorded(self.config(**lora))
        eta_squared = config.eta_squared or 1.0
        fast = recorded(self.config(**lora, rate=eta_squared))
        record = recorded(config)
        curves = [
            *_curve(slow, "LoRA, same lr", COLOURS["lora"], is_backdrop=True),
            *_curve(
                fast if eta_squared != 1 else None, "LoRA at η × lr", COLOURS["lora"], True, True
            ),
        ]
        if config.method != "lora":
            curves += _curve(record, METHODS[config.method].label, COLOURS[config.method])
        curves += self._live_curve()
        with lab_style():
            axes = self._emptied_axes(axis)
            draw_curves(axes, curves, floor=FLOORS[config.optimizer], is_log=axis == "log")
            axes.set_ylabel("mean row norm of BA")
            axes.set_title(f"{OPTIMIZERS[config.optimizer].label}, lr = {config.lr:g}")
        return self._figure, _caption(config, record, slow, fast) + self._live_words()

    def _emptied_axes(self, scale: str) -> Axes:
        """Return the axes without curves and labels; anew only where the scale has changed."""
        if self._scale != scale:
            self._figure.clear()
            self._figure.add_axes((0.1, 0.14, 0.62, 0.76))
            self._scale = scale
        axes = self._figure.axes[0]
        for artist in (*axes.lines, *axes.texts):
            artist.remove()
        return axes

    def panel_controls_follow(self, method: str) -> None:
        """Switch eta_squared off for a method that does not read it."""
        if self.panel:
            self.panel.controls["eta_squared"].disabled = not METHODS[method].reads_eta_squared

    def _live_words(self) -> str:
        """Say how the live run ended, and whether it repeated the recorded one."""
        live = self.live.record
        if live is None or self.live.config is None:
            return ""
        known = recorded(self.live.config)
        words = f"<br>Live run of {METHODS[self.live.config.method].label}: accuracy "
        words += f"{accuracy_words(live)}, {live.train_seconds:.0f} s of training"
        if known is None:
            return f"{words}."
        last, before = live.trace["row_norm_mean"][-1], known.trace["row_norm_mean"][-1]
        same = "equal to" if last == before else f"{last / before - 1:+.2%} off"
        return f"{words}; its last norm is {same} the recorded one."

    def _live_curve(self) -> list[Curve]:
        trace, config = self.live.trace, self.live.config
        if not trace or not config or len(trace["step"]) < 2:
            return []
        label = f"live: {METHODS[config.method].label}"
        return [Curve(trace["step"], trace["row_norm_mean"], label, "#000000", is_dotted=True)]


def _curve(
    record: RunRecord | None,
    label: str,
    colour: str,
    is_dashed: bool = False,
    is_backdrop: bool = False,
) -> list[Curve]:
    if record is None:
        return []
    steps, norms = record.trace["step"], record.trace["row_norm_mean"]
    return [Curve(steps, norms, label, colour, is_dashed=is_dashed, is_backdrop=is_backdrop)]


def _caption(
    config: RunConfig, record: RunRecord | None, slow: RunRecord | None, fast: RunRecord | None
) -> str:
    """Return what the picture shows, in words."""
    eta = f", η² = {config.eta_squared:g}" if config.eta_squared else ""
    name = (
        f"<b>{METHODS[config.method].label}</b>, {OPTIMIZERS[config.optimizer].label}, "
        f"lr = {config.lr:g}{eta}, r = {config.r}, dropout = {config.lora_dropout:g}"
    )
    if record is None:
        return f"{name}: no run of this setting is recorded. Press <b>Run it live</b> to make one."
    norm = record.trace["row_norm_mean"][-1]
    words = [f"{name}: after {config.steps} steps the rows of BA are {norm:.3g} long on average"]
    for other, text in ((slow, "LoRA's at the same lr"), (fast, "LoRA's at η × lr")):
        if other and other.run_id != record.run_id:
            words.append(f"{norm / other.trace['row_norm_mean'][-1]:.2f} times {text}")
    return (
        f"{', '.join(words)}. Accuracy {accuracy_words(record)} (one seed; ± is half the 95 % "
        f"interval over {record.config['eval_size']} held-out sentences). Recorded on "
        f"{record.device}."
    )
