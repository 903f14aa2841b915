"""Panel of notebook 03: one scaling factor, many layers, and what becomes of the signal."""

from typing import Any

from matplotlib.figure import Figure

from allora_lab.experiments.ripple import model_rows, ripple_case, ripple_curves
from allora_lab.experiments.ripple_records import SCALINGS, recorded_ripples
from allora_lab.panels.base import Panel, choice, menu
from allora_lab.plots.ripple import RippleDrawing, in_words, model_curves, stack_curves
from allora_lab.theory.ripple import growth_bound, mean_square_norm

DEPTHS = (2, 6, 12, 24, 48)
RATIOS = (0.03, 0.1, 0.3, 1.0)
ALIGNMENTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
MODEL = "minilm"
ARCHITECTURES = {
    "multi-linear (the paper's)": "multi-linear",
    "with a residual stream": "residual",
    "residual, LayerNorm before": "pre-layernorm",
    "residual, LayerNorm after": "post-layernorm",
    "MiniLM, fine-tuned (recorded)": MODEL,
}


class RipplePanel(Panel):
    """Scaling, depth, m, alignment and architecture; growth and change, layer by layer.

    The last architecture is a recorded real model, of which only the scaling can be chosen.
    """

    def __init__(self) -> None:
        self._drawing = RippleDrawing()
        self._case = ripple_case()
        records = recorded_ripples()
        self._rows = {row["scaling"]: row for row in model_rows(records)}
        self._seeds = len(records)
        super().__init__(
            {
                "architecture": menu("architecture", ARCHITECTURES, "multi-linear"),
                "scaling": choice("scaling s", [(f"{s:g}", s) for s in SCALINGS], 2.0),
                "depth": choice("layers L", DEPTHS, 24),
                "ratio": choice("m = ||BA|| / ||W||", RATIOS, 0.3),
                "alignment": choice("alignment", ALIGNMENTS, 1.0, "cosine with the signal"),
            },
            self._show,
            computed_by=(ripple_curves, growth_bound, mean_square_norm),
        )

    def _on_change(self, change: Any) -> None:
        is_model = self.controls["architecture"].value == MODEL
        for name in ("depth", "ratio", "alignment"):
            self.controls[name].disabled = is_model
        super()._on_change(change)

    def _show(self, architecture: str, scaling: float, **stack: float) -> tuple[Figure, str]:
        if architecture == MODEL:
            return self._show_model(scaling)
        return self._show_stack(architecture, scaling, **stack)

    def _show_stack(
        self, architecture: str, scaling: float, depth: int, ratio: float, alignment: float
    ) -> tuple[Figure, str]:
        found = ripple_curves(
            self._case, architecture, scaling=scaling, ratio=ratio, alignment=alignment
        )
        figure = self._drawing.update(*stack_curves(found, depth, alignment=alignment))
        at = {name: in_words(values[depth]) for name, values in found.items()}
        return figure, (
            f"s = {scaling:g}, m = {ratio:g}, {depth} layers: the operator norms allow the output to "
            f"grow {at['bound']} times. Adapters at a cosine of {alignment:g} with the signal "
            f"grow it {at['aligned']} times and move it by {at['aligned_change']} times its "
            f"length; random ones of rank {self._case.A.shape[2]} grow it {at['random']} times "
            f"(the root of the expected square: {at['law']}) and move it by "
            f"{at['random_change']} times its length. Medians over {len(self._case.x)} networks of "
            f"width {self._case.x.shape[1]}."
        )

    def _show_model(self, scaling: float) -> tuple[Figure, str]:
        if not self._rows:
            return self._drawing.update(*stack_curves(_NOTHING, 1, alignment=0)), (
                "No real model is recorded: <code>record_all()</code> of "
                "<code>allora_lab.experiments.ripple_model</code> makes the records."
            )
        row = self._rows[scaling]
        mean = sum(row["accuracies"]) / len(row["accuracies"])
        return self._drawing.update(*model_curves(row)), (
            f"MiniLM, LoRA of rank 8 on query and value, trained at s = 1, then scaled to s = "
            f"{scaling:g}: the operator norms allow a growth of {in_words(row['bound'][-1])}; the "
            f"words' last hidden states grow {row['growth'][-1]:.2f} times on average and move by "
            f"{in_words(row['change'][-1])} times their length. Accuracy {mean:.3f} on held-out "
            f"sentences. Means over {self._seeds} recorded seed{'s' if self._seeds > 1 else ''}."
        )


_NOTHING = {
    name: [1.0, 1.0] for name in ("bound", "aligned", "random", "aligned_change", "random_change")
}
