"""Sentences and tables of `docs/results.md` that are written from the records; see `pages`."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from allora_lab.experiments.allocation_content import by_label, final_ranks
from allora_lab.experiments.allocation_runs import MODULES
from allora_lab.experiments.claim_numbers import filled_in
from allora_lab.experiments.clipping import READ_AT, RUNS, STEPS, norm_ratios
from allora_lab.experiments.collected import accuracies, collect
from allora_lab.experiments.demo import FOLDER, escape_config
from allora_lab.experiments.rank_content import in_planted, recorded_groups
from allora_lab.experiments.records import RunRecord, read_record, record_path
from allora_lab.experiments.ripple import layer_bound
from allora_lab.experiments.ripple_records import SCALINGS, recorded_ripples
from allora_lab.experiments.statistics import Estimate, mean_interval
from allora_lab.experiments.sweep_tables import to_markdown
from allora_lab.experiments.tables import SEEDS

SAME_RUN = {"method": "lora", "optimizer": "adamw", "lr": 0.001, "dataset": "rotten_tomatoes"}
DATA = {"rotten_tomatoes": "Rotten Tomatoes", "emotion": "Emotion"}
BUDGETS = (1, 2, 8, 16)  # ranks in a module, besides the 4 of the main comparison
NEARLY_ALL_RANKS = 0.002  # SoRA's threshold ξ that leaves nearly all of its ranks on E2E


def _mean(values: Sequence[float]) -> str:
    return str(Estimate(*mean_interval(values)))


def _compared(sweep: str, comparison: str, **settings: object) -> str:
    """Return a comparison's difference with its interval, in the one setting with these values."""
    results = [
        group.result
        for group in collect(sweep).comparison(comparison).finished
        if all(getattr(group.ours, key) == value for key, value in settings.items())
    ]
    if len(results) != 1 or results[0] is None:
        raise FileNotFoundError(
            f"{comparison} is recorded in {len(results)} settings with {settings}, not in one: "
            f"allora-lab sweep sweeps/{sweep}.toml makes the records"
        )
    half = results[0].high - results[0].mean_difference
    return str(Estimate(results[0].mean_difference, half, is_difference=True))


def same_run_elsewhere() -> str:
    """Return why LoRA at lr 0.001 under AdamW has other accuracies in other tables."""
    here = [
        read_record(record_path(FOLDER, escape_config("adamw", method="lora", seed=seed)))
        for seed in SEEDS
    ]
    tried, compared = (
        collect(sweep).where(**SAME_RUN, lora_dropout=0.0)
        for sweep in ("learning-rate", "perception")
    )
    shown = [f"{fmean(accuracies(records)):.1f} %" for records in (here, tried, compared)]
    return (
        f"LoRA under AdamW at lr 0.001 has an accuracy of {shown[0]} here (`rotten_tomatoes_rated`, 96 batches "
        f"of 16, dev sentences), {shown[1]} in `learning-rate` (`rotten_tomatoes`, 128 batches of 8, dev "
        f"sentences, {len(tried)} seeds) and {shown[2]} in `perception` (the same, but test sentences and "
        f"{len(compared)} seeds). Data, batches and scored sentences differ: compare only within a table."
    )


def clipping() -> str:
    """Return how much of ALLoRA's taper under SGD remains without gradient clipping."""
    clipped, whole = (_mean(norm_ratios(settings, STEPS)) for settings in RUNS.values())
    early = fmean(norm_ratios(RUNS["not clipped"], READ_AT[0]))
    return (
        "SGD clips the norm of the gradient at 0.5, and near zero ALLoRA's gradients are η times as long. After "
        f"{STEPS} steps ALLoRA's rows are {clipped} times as long as those of LoRA at η × lr. Without clipping "
        f"the ratio is {early:.2f} after {READ_AT[0]} steps and {whole} after {STEPS}: this decline alone is "
        "the taper of the coefficient."
    )


def analysis_table() -> str:
    """Return what the paper's analysis says and what comes out, one figure in each row."""
    records, largest = recorded_ripples(), SCALINGS[-1]
    bound = fmean(layer_bound(record, largest)[-1] for record in records)
    growth = fmean(record.scaled[-1]["growth"]["mean"][-1] for record in records)
    rows = {
        "dropout-ols": (
            "dropout is a ridge only on average; N steps are within Std/√N of it",
            (
                "The bound holds for a fixed W and is {bound-too-large:.2f} times too large. Where W moves, the noise of "
                "one run is {noise-after-3:.1f} times dropout's effect after 3 steps of a small model and "
                "{noise-after-10:.1f} times after 10; it ends at a floor, not at 1/√N."
            ),
        ),
        "hessian": (
            "with few samples the landscape is degenerate; LoRA starts at a saddle",
            (
                "The rank is d_out · rank X at *every* V, which does no harm to the loss. (0, 0) is a saddle; LoRA's "
                "start is not, but it is near one: in the example it waits {wait:.1f} times as long as full "
                "fine-tuning."
            ),
        ),
        "ripple": (
            "the scaling factor makes outputs grow exponentially with depth",
            (
                "That is an upper bound: {stack-bound:.1e}, where random directions give {stack-random:.2f}. In MiniLM "
                f"scaled {largest:g} times (n = {len(records)}) the bound is {bound:.1e} and the growth {growth:.1f}; "
                "the states turn instead."
            ),
        ),
        "gradient-variance": (
            "over training the average noise of the gradient falls, the worst rises (Figure 1)",
            (
                "On MNIST both happen, although from epoch 1 on no rise of the worst can be detected. On CIFAR-10 "
                "the average rises too."
            ),
        ),
        "adaptive-rate": (
            "the coefficient is inversely proportional to the norm (Figure 5)",
            (
                "It is inversely proportional to the square root of the norm. Under a constant gradient a row grows "
                "without bound."
            ),
        ),
    }
    heads = ("figure", "the paper says", "what comes out")
    lines = [(f"`{name}`", says, filled_in(found)) for name, (says, found) in rows.items()]
    return to_markdown([dict(zip(heads, line, strict=True)) for line in lines])


def planted_ranks() -> str:
    """Return where ranks end when the modules that need them are known."""
    found = {
        label: f"{fmean(map(in_planted, records)):.1f}"
        for label, records in recorded_groups("planted").items()
        if records[0].planted
    }
    seeds = len(recorded_groups("planted")["ALoRA"])
    return (
        f"Where the modules that need ranks are known (`allora-lab figure rank-tasks`; {seeds} seeds), two of the eight "
        f"ranks start in them. ALoRA as published, scored on 32 examples, ends with {found['ALoRA']} there; scored "
        f"on 1,024 examples with {found['ALoRA, 1,024 examples']}, and with one rank moved at a time with "
        f"{found['ALoRA, 1,024 examples, n_A = 1']}. The learned gates that the paper ranks below it (ALoRA-DNAS) end "
        f"with {found['ALoRA-DNAS']}, sensitivity with {found['ALoRA-Sensi']}, magnitude with "
        f"{found['ALoRA by magnitude']}. In this task the score measures the right thing, and its batch is too small."
    )


def allocation() -> str:
    """Return what moving ranks is worth in fine-tunes of MiniLM."""
    tomatoes, emotion = ({"r": 4, "dataset": key, "ranks_moved": None} for key in DATA)
    than_lora, than_random, than_adalora = (
        [_compared("allocation", f"ALoRA - {rival}", **data) for data in (tomatoes, emotion)]
        for rival in ("LoRA", "at random", "AdaLoRA")
    )
    others = [_compared("allocation", "ALoRA - LoRA", r=r) for r in BUDGETS]
    return (
        "Fine-tuning MiniLM (`sweeps/allocation.toml`; 144 ranks in 36 modules, five seeds), we found little to gain "
        f"by moving ranks. ALoRA with six moved in each round, less LoRA, is {than_lora[0]} points on Rotten Tomatoes "
        f"and {than_lora[1]} on Emotion; less ranks moved at random, {than_random[0]} and {than_random[1]}. With "
        f"{', '.join(str(MODULES * r) for r in BUDGETS)} ranks, ALoRA less LoRA is {'; '.join(others)} points on Rotten "
        f"Tomatoes. ALoRA less AdaLoRA is {than_adalora[0]} points on Rotten Tomatoes and {than_adalora[1]} on Emotion."
    )


def _range(counts: Sequence[int]) -> str:
    return f"{min(counts)} to {max(counts)}"


def sora_ranks() -> str:
    """Return with how many ranks SoRA ends, which its threshold does not fix, and its rivals'."""
    small = [
        [sum(record.final_ranks.values()) for record in recorded_groups(task)["SoRA"]]
        for task in ("planted", "digits")
    ]
    minilm = by_label(collect("allocation").records, "rotten_tomatoes")["SoRA"]
    texts = collect("e2e").where(method="sora")
    text = [r for r in texts if r.config["gate_threshold"] != NEARLY_ALL_RANKS]
    large = [[sum(final_ranks(record).values()) for record in runs] for runs in (minilm, text)]
    return (
        "SoRA has no budget: its threshold decides how many ranks remain. It ends with "
        f"{', '.join(map(str, small[0]))} ranks where the others have 8 (known answer), {_range(small[1])} where they "
        f"have 36 (images), {_range(large[0])} for 144 (Rotten Tomatoes) and {_range(large[1])} for 56 (E2E)."
    )


def commonsense() -> str:
    """Return what the commonsense tasks show of a decoder far below the papers' size."""
    records = collect("commonsense").records
    counts = Counter(f"{value:.1f} %" for value in accuracies(records)).most_common()
    (usual, times), *others = counts
    rest = " and ".join(
        f"{count} have {value}" if count > 1 else f"one has {value}" for value, count in others
    )
    return (
        f"On the commonsense tasks {times} of {len(records)} runs have the same accuracy by likelihood, {usual}"
        f"{', and ' + rest if rest else ''}; guessing gives {100 * records[0].metrics['eval_chance']:.1f} %. "
        "The model seems to give one answer whatever is asked."
    )


def e2e() -> str:
    """Return the scores of the E2E texts by method."""
    runs = collect("e2e")

    def bleu(records: Sequence[RunRecord]) -> str:
        return _mean([100 * record.metrics["eval_bleu"] for record in records])

    scores = {
        label: bleu(runs.where(method=method))
        for label, method in (
            ("LoRA", "lora"),
            ("ALLoRA", "allora"),
            ("ALoRA", "alora-ablation"),
            ("ranks moved at random", "alora-random"),
            ("AdaLoRA", "adalora"),
        )
    }
    sora = runs.where(method="sora")
    cut, most = (
        bleu([r for r in sora if (r.config["gate_threshold"] == NEARLY_ALL_RANKS) is keeps])
        for keeps in (False, True)
    )
    less = [_compared("e2e", f"ALoRA - LoRA{of}") for of in ("", ", ROUGE-L", ", METEOR")]
    return (
        "On E2E (five seeds, 100 test records, equal ranks) BLEU is "
        f"{', '.join(f'{value} for {label}' for label, value in scores.items())}. ALoRA less LoRA is {less[0]} in BLEU, "
        f"{less[1]} in ROUGE-L and {less[2]} in METEOR. SoRA cut to about the same number of ranks fails ({cut}); with "
        f"nearly twice as many it has {most}, and ALoRA less SoRA is then "
        f"{_compared('e2e', 'ALoRA - SoRA with nearly all its ranks')}."
    )
