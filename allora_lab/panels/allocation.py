"""Panel of notebook 08: set a rank budget, and watch ranks leave some modules and come to others."""

from collections.abc import Mapping, Sequence
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
    accuracies_by_budget,
    allocation_config,
    recorded_run,
)
from allora_lab.experiments.rank_content import rank_matrix
from allora_lab.methods import METHODS
from allora_lab.panels.base import Panel, choice, menu
from allora_lab.panels.live import LivePanel, LiveRun
from allora_lab.plots.allocation import allocation_figure

SCORES = (
    *("alora-ablation", "alora-sensitivity", "alora-dnas", "alora-magnitude", "alora-random"),
    "lora",
)
BUDGETS = tuple(MODULES * r for r in (1, 2, 4, 8, 16))
LIVE_DATA = "rotten_tomatoes_rated"  # is here without a network
MOVED = {"6, as in the paper": 0, "24, so that more moves": 24}
Trace = Mapping[str, Any]


def ranks_after(trace: Trace, start: Mapping[str, int], round_number: int) -> dict[str, int]:
    """Return each layer's ranks after so many rounds, or after the last there was."""
    rounds = len(trace.get("allocation", {}).get("step", ()))
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


class AllocationPanel(LivePanel):
    """Score, rank budget, n_A and round over recorded runs of MiniLM; and "Run it live".

    What is run live is trained on sentences that are here without a network: LIVE_DATA.
    `settings` changes what is run (fewer steps, say); such runs are not recorded, so only live ones
    are shown.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.live = LiveRun(self._config_now, self._on_live)
        self.panel = Panel(self._controls(), self._draw, computed_by=(plain_scores, reallocate))
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
        """Return the run of a setting; `ranks_moved` of 0 is the paper's (a list shows no None)."""
        return allocation_config(method, budget // MODULES, ranks_moved or None, **self.settings)

    def _config_now(self) -> RunConfig:
        values = self.panel.values()
        values.pop("round_number")
        return self._live_of(self.config(**values))

    @staticmethod
    def _live_of(config: RunConfig) -> RunConfig:
        return config.with_changes(dataset=LIVE_DATA)

    def _draw(self, round_number: int, **values: Any) -> tuple[Figure, str]:
        config = self.config(**values)
        if self.panel:
            self.panel.controls["ranks_moved"].disabled = config.method == "lora"
        record = None if self.settings else recorded_run(config)
        trace = record.trace if record else {}
        if self.live.config == self._live_of(config) and self.live.trace:
            trace = self.live.trace
        start = dict.fromkeys(layer_names(), config.r)
        ranks = ranks_after(trace, start, round_number)
        modules, blocks, matrix = rank_matrix([ranks])
        steps = trace.get("allocation", {}).get("step", [])
        view = {
            "map": {
                "title": f"ranks after round {round_number}"
                if round_number
                else "ranks at the start",
                "note": "block",
                "modules": [short_name(module) for module in modules],
                "blocks": blocks,
                "ranks": matrix,
                "marked": [],
            },
            "largest": max(2 * config.r, *map(max, matrix)),
            "scores": scores_of_round(trace, round_number),
            "norms": trace.get("rank_norms", {}),
            "until": steps[round_number] if round_number < len(steps) else None,
            "budgets": self._budgets(config),
            "budget": values["budget"],
        }
        return allocation_figure(view), self._caption(config, record, ranks, matrix, modules)

    def _budgets(self, config: RunConfig) -> dict[str, tuple[str, dict[int, list[float]]]]:
        methods = dict.fromkeys(("lora", config.method))
        return {
            key: (
                METHODS[key].label,
                accuracies_by_budget(key, config.ranks_moved if key != "lora" else None),
            )
            for key in methods
        }

    def _caption(
        self,
        config: RunConfig,
        record: Any,
        ranks: Mapping[str, int],
        matrix: Sequence[Sequence[float]],
        modules: Sequence[str],
    ) -> str:
        name = f"<b>{METHODS[config.method].label}</b>, {sum(ranks.values())} ranks"
        by_module = sorted(zip(map(sum, matrix), map(short_name, modules), strict=True))
        least, most = by_module[0], by_module[-1]
        words = f"{name}: fewest in {least[1]} ({least[0]:g}), most in {most[1]} ({most[0]:g})."
        if record:
            accuracy = 100 * record.metrics["eval_accuracy"]
            words += f" Accuracy {accuracy:.1f} % of {config.eval_size} test sentences, one seed."
        elif self.live.config == self._live_of(config) and self.live.record:
            words += f" Live: accuracy {100 * self.live.record.metrics['eval_accuracy']:.1f} % on {LIVE_DATA}."
        else:
            words += " No run of this setting is recorded. Press <b>Run it live</b> to make one."
        return words


def layer_names() -> list[str]:
    """Return the names of MiniLM's 36 adapted layers, in the order of the model."""
    modules = (
        *(f"attention.self.{name}" for name in ("query", "key", "value")),
        *(f"{name}.dense" for name in ("attention.output", "intermediate", "output")),
    )
    return [f"bert.encoder.layer.{block}.{module}" for block in range(6) for module in modules]
