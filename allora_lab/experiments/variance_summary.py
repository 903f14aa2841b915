"""What is kept of 262,144 standard deviations: their distribution, and how they compare with G."""

import numpy as np

from allora_lab.theory.streaming_moments import Moments

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
QUANTILE_NAMES = ("q01", "q10", "q50", "q90", "q99", "q999")
# Ten bins a decade, for histograms of std; smaller values count in the first bin, larger in the last.
LOG10_EDGES = np.round(np.arange(-8.0, 1.01, 0.1), 1)


def summarise(moments: Moments) -> dict[str, float | list[int]]:
    """Return the distribution over entries of the std over masks, and the size of the gradient.

    Keys, all in the gradient's unit (nats a unit of weight) unless said otherwise:

    - ``mean``, ``q01`` ... ``q999``, ``max``: of the std over entries;
    - ``rms``: the root of the mean *variance* over entries;
    - ``zeros``: the share of entries with no spread at all (units that no image activates);
    - ``gradient_norm``: ||E G||_F, less what the noise of a finite mean adds to it;
    - ``signal_to_noise``: ||E G||_F / √(Σ variance), a number; 1 means that one mask's gradient is
      as much signal as noise, and 0 that no signal stands out of the noise;
    - ``relative_median``: the median over entries of std / |mean|;
    - ``histogram``: how many entries fall between each two of LOG10_EDGES.
    """
    std = moments.std().numpy().ravel()
    mean = moments.mean.numpy().ravel()
    variance = float((std**2).sum())
    signal = max(float((mean**2).sum()) - variance / moments.count, 0.0)
    positive = std[std > 0]
    logs = np.clip(np.log10(positive), LOG10_EDGES[0], LOG10_EDGES[-1])
    quantiles = np.quantile(std, QUANTILES)
    has_mean = np.abs(mean) > 0
    relative = std[has_mean] / np.abs(mean[has_mean])
    return {
        **{name: _short(q) for name, q in zip(QUANTILE_NAMES, quantiles, strict=True)},
        "mean": _short(std.mean()),
        "max": _short(std.max()),
        "rms": _short((std**2).mean() ** 0.5),
        "zeros": _short((std == 0).mean()),
        "gradient_norm": _short(signal**0.5),
        "signal_to_noise": _short((signal / variance) ** 0.5 if variance > 0 else 0.0),
        "relative_median": _short(np.median(relative) if relative.size else 0.0),
        "histogram": np.histogram(logs, LOG10_EDGES)[0].tolist(),
    }


def _short(value: float) -> float:
    """Return a number to six digits, more than any measurement here has."""
    return float(f"{value:.6g}")
