"""Panel of notebook 08: set a rank budget, and watch ranks leave some modules and come to others."""

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from allora_lab.allocation.importance import plain_scores
from allora_lab.allocation.places import place_of
from allora_lab.allocation.reallocate import reallocate
from allora_lab.config import RunConfig
from allora_lab.experiments.allocation_content import short_name
from allora_lab.experiments.allocation_runs import (
    MODULES,
    ROUNDS,
    SWEEP,
    accuracies_by_budget,
    allocation_config,
    base_settings,
    recorded_run,
)
from allora_lab.experiments.collected import DATASET_LABELS
from allora_lab.experiments.rank_content import rank_matrix
from allora_lab.experiments.records import RunRecord, found_records
from allora_lab.methods import METHODS
from allora_lab.panels.base import choice, menu
from allora_lab.panels.live import LivePanel, LiveRun
from allora_lab.panels.recorded import RecordedPanel
from allora_lab.plots.allocation import allocation_figure, empty_figure

SCORES = (
    *("alora-ablation", "alora-sensitivity", "alora-dnas", "alora-magnitude", "alora-random"),
    "lora",
)
BUDGETS = tuple(MODULES * r for r in (1, 2, 4, 8, 16))
LIVE_DATA = "rotten_tomatoes_rated"  # is here without a network
LIVE_LABEL = "Rotten Tomatoes, rated by people"
MOVED = {"6, as in the paper": 0, "24, so that more moves": 24}
SETTING = ("method", "budget", "ranks_moved")
Trace = Mapping[str, Any]


def rounds_of(trace: Trace) -> int:
    """Return how many rounds a trace has."""
    return len(trace.get("allocation", {}).get("step", ()))


def ranks_after(trace: Trace, start: Mapping[str, int], round_number: int) -> dict[str, int]:
    """Return each layer's ranks after so many rounds, or after the last there was."""
    rounds = rounds_of(trace)
    if not min(round_number, rounds):
        return dict(start)
    ranks = trace["allocation"]["ranks"]
    return {name: values[min(round_number, rounds) - 1] for name, values in ranks.items()}


def scores_of_round(trace: Trace, round_number: int) -> dict[str, float]:
    """Return each kind of module's mean score in a round, from 1; {} where there is none."""
    scores = trace.get("allocation", {}).get("scores", {})
    found: dict[str, list[float]] = {}
    for name, rounds in scores.items():
        if len(rounds) >= round_number > 0:
            found.setdefault(short_name(place_of(name)[1]), []).extend(rounds[round_number - 1])
    return {name: fmean(values) for name, values in found.items() if values}


def setting_config(method: str, budget: int, ranks_moved: int | None, **changes: Any) -> RunConfig:
    """Return the run of a setting; `ranks_moved` of 0 is the paper's (a list shows no None)."""
    return allocation_config(method, budget // MODULES, ranks_moved or None, **changes)


def recorded_settings() -> list[tuple[str, int, int]]:
    """Return every setting of the panel, as values of `SETTING`, that has a record."""
    every = {v: setting_config(*v) for v in product(SCORES, BUDGETS, MOVED.values())}
    there = {path.stem for path in found_records(SWEEP, every.values())}
    return [values for values, config in every.items() if config.run_id in there]


class AllocationPanel(LivePanel):
    """Score, rank budget, n_A and round over recorded runs of MiniLM; and "Run it live".

    Every control offers what is recorded for the controls before it.  A live run trains on
    sentences that are here without a network, LIVE_DATA, so the caption names the data set of what
    is drawn.  `settings` changes what is run (fewer steps, say); such runs are not recorded, so
    every position is offered and only live runs are drawn.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.live = LiveRun(self._config_now, self._on_live)
        self.panel = RecordedPanel(
            self._controls(),
            self._draw,
            () if settings else recorded_settings(),
            SETTING,
            computed_by=(plain_scores, reallocate),
        )
        super().__init__()

    @staticmethod
    def _controls() -> dict[str, widgets.Widget]:
        return {
            "method": menu("score", {METHODS[key].label: key for key in SCORES}, SCORES[0]),
            "budget": choice("rank budget", BUDGETS, 4 * MODULES),
            "ranks_moved": menu("n_A", MOVED, 0),
            "round_number": choice("round", list(range(ROUNDS + 1)), ROUNDS),
        }

    def config(self, method: str, budget: int, ranks_moved: int | None) -> RunConfig:
        """Return the run of a setting, changed as `settings` say; see `setting_config`."""
        return setting_config(method, budget, ranks_moved, **self.settings)

    def _config_now(self) -> RunConfig:
        values = self.panel.values()
        values.pop("round_number")
        return self._live_of(self.config(**values))

    @staticmethod
    def _live_of(config: RunConfig) -> RunConfig:
        return config.with_changes(dataset=LIVE_DATA)

    def _draw(self, round_number: int, **values: Any) -> tuple[Figure, str]:
        config = self.config(**values)
        if self.panel and config.method == "lora":
            self.panel.controls["ranks_moved"].disabled = True
        name = f"<b>{METHODS[config.method].label}</b>, {values['budget']} ranks at the start"
        if config.ranks_moved:
            name += f", n_A = {config.ranks_moved}"
        is_live = self.live.config == self._live_of(config) and bool(self.live.trace)
        record = self.live.record if is_live else None if self.settings else recorded_run(config)
        if not is_live and record is None:
            words = "no run of this setting is recorded"
            return empty_figure(words), f"{name}: {words}. Press <b>Run it live</b> to make one."
        trace = self.live.trace if is_live else record.trace
        held = min(round_number, rounds_of(trace))
        ranks = ranks_after(trace, dict.fromkeys(layer_names(), config.r), held)
        modules, blocks, matrix = rank_matrix([ranks])
        where = "(no rank moves)" if config.method == "lora" else _when(held, trace)
        view = {
            "map": _map(f"{'live: ' if is_live else ''}ranks {where}", modules, blocks, matrix),
            "largest": max(2 * config.r, *map(max, matrix)),
            "scores": scores_of_round(trace, held),
            "norms": trace.get("rank_norms", {}),
            "until": _until(trace, held),
            "budgets": self._budgets(config),
            "budget": values["budget"],
            "budgets_data": _label(base_settings()["dataset"]),
        }
        run = (
            f"live run on {LIVE_LABEL}" if is_live else f"recorded run on {_label(config.dataset)}"
        )
        is_end = round_number == ROUNDS or config.method == "lora"
        words = f"{name}, {run} {where}: {_extremes(modules, matrix)}"
        return allocation_figure(view), words + _accuracy_words(record, is_end, is_live)

    def _budgets(self, config: RunConfig) -> dict[str, tuple[str, dict[int, list[float]]]]:
        methods = dict.fromkeys(("lora", config.method))
        return {
            key: (
                METHODS[key].label,
                accuracies_by_budget(key, config.ranks_moved if key != "lora" else None),
            )
            for key in methods
        }


def _label(dataset: str) -> str:
    return DATASET_LABELS.get(dataset, dataset)


def _when(held: int, trace: Trace) -> str:
    """Say which round is shown; a run under way may have had fewer than were asked for."""
    return f"after round {held} of {rounds_of(trace)}" if held else "at the start"


def _until(trace: Trace, held: int) -> int | None:
    """Return the step of the next round, up to which norms are drawn; None for all of them."""
    steps = trace.get("allocation", {}).get("step", [])
    return steps[held] if held < len(steps) else None


def _map(
    title: str, modules: Sequence[str], blocks: Sequence[int], matrix: Sequence[Sequence[float]]
) -> dict[str, Any]:
    names = [short_name(module) for module in modules]
    same = {"note": "block", "marked": []}
    return {"title": title, "modules": names, "blocks": blocks, "ranks": matrix, **same}


def _extremes(modules: Sequence[str], matrix: Sequence[Sequence[float]]) -> str:
    """Say how many ranks there are, and which module has the fewest and the most."""
    by_module = sorted(zip(map(sum, matrix), map(short_name, modules), strict=True))
    (least, poorest), (most, richest) = by_module[0], by_module[-1]
    if least == most:
        return f"{sum(map(sum, matrix)):g} ranks, {least:g} in every module."
    ranks = sum(map(sum, matrix))
    return f"{ranks:g} ranks, fewest in {poorest} ({least:g}), most in {richest} ({most:g})."


def _accuracy_words(record: RunRecord | None, is_end: bool, is_live: bool) -> str:
    """Give a run's accuracy, which is measured once, after its last step, so at no earlier round."""
    if record is None:
        return " The live run has not finished, so it has no accuracy yet."
    if not is_end:
        return f" Accuracy is measured after the last step only: see round {ROUNDS}."
    accuracy, n = 100 * record.metrics["eval_accuracy"], record.config["eval_size"]
    words = f" Accuracy at the end {accuracy:.1f} % of {n} test sentences, one seed."
    return f"{words} Reset shows the recorded run again." if is_live else words


def layer_names() -> list[str]:
    """Return the names of MiniLM's 36 adapted layers, in the order of the model."""
    modules = (
        *(f"attention.self.{name}" for name in ("query", "key", "value")),
        *(f"{name}.dense" for name in ("attention.output", "intermediate", "output")),
    )
    return [f"bert.encoder.layer.{block}.{module}" for block in range(6) for module in modules]
