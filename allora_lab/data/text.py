"""The registry of labelled text data sets: one row a set, and the one function that loads it."""

from collections.abc import Callable
from dataclasses import dataclass

from allora_lab.checks import require_known
from allora_lab.data.hub import read_hub
from allora_lab.data.local import local_files, read_local
from allora_lab.data.rated import load_rated
from allora_lab.data.splits import Split, TextDataset

__all__ = ["DATASETS", "DatasetInfo", "Split", "TextDataset", "load_text"]

RATED_SOURCE = "source archive of vaderSentiment 0.5 on the Python package index"
RATED_RULE = "sign of the mean of at least 20 people's ratings from -4 to 4; |mean| < 0.5 left out"
FULL_SOURCE = "the folder ALLORA_LAB_DATA, else the Hugging Face hub"


@dataclass(frozen=True)
class DatasetInfo:
    """One row of the table: what a data set is, whose it is, and how it is loaded.

    `load` takes the key; `label_rule` says how a label came about; `source` where it is from.
    """

    load: Callable[[str], TextDataset]
    description: str
    licence: str
    label_rule: str
    source: str


def _load_full(key: str) -> TextDataset:
    paths = local_files(key)
    return read_local(key, paths) if paths else read_hub(key)


def _rated(description: str) -> DatasetInfo:
    return DatasetInfo(load_rated, description, "MIT", RATED_RULE, RATED_SOURCE)


DATASETS: dict[str, DatasetInfo] = {
    "rotten_tomatoes_rated": _rated("sentences of movie reviews, rated by people"),
    "amazon_rated": _rated("sentences of product reviews, rated by people"),
    "nyt_rated": _rated("sentences of newspaper editorials, rated by people"),
    "tweets_rated": _rated("tweets, rated by people"),
    "rotten_tomatoes": DatasetInfo(
        _load_full,
        "sentences of movie reviews (Pang & Lee 2005)",
        "none stated; given for research",
        "the review's own verdict: rotten or fresh",
        FULL_SOURCE,
    ),
    "emotion": DatasetInfo(
        _load_full,
        "tweets by emotion (Saravia et al. 2018)",
        "education and research only",
        "the tweet's hashtag: one of six emotions",
        FULL_SOURCE,
    ),
    "yelp": DatasetInfo(
        _load_full,
        "reviews of businesses",
        "Yelp data set licence: academic use",
        "the reviewer's stars, 1 to 5",
        FULL_SOURCE,
    ),
}


def load_text(key: str) -> TextDataset:
    """Return a data set with its fixed splits, which no seed of a run moves.

    Emotion and the sets from the hub keep their own splits; the others are shuffled by seed 0 and
    cut 80/10/10, not stratified.  No text stands in two splits: of a text that occurs twice one is
    kept, the first of its file and with the first one's label, in test before dev before train.
    Every split is in shuffled order, so its first n texts are a fair sample.

    Parameters
    ----------
    key
        A key of DATASETS.

    Raises
    ------
    ValueError
        For an unknown key, or for a file that is not the one expected.
    FileNotFoundError
        When ALLORA_LAB_DATA names no folder or has only part of the set.
    ConnectionError
        When the set has to be fetched and cannot be.
    """
    require_known("data set", key, DATASETS)
    return DATASETS[key].load(key)
