"""The same full data sets from the Hugging Face hub, as the Parquet files it keeps of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from allora_lab.data.local import LABEL_NAMES
from allora_lab.data.splits import TextDataset, own_splits
from allora_lab.models.hub import INSTEAD_OF_DATA, cached_snapshot, fetch_snapshot

PARQUET = "refs/convert/parquet"  # the hub's own branch: <config>/<split>/0000.parquet, no code


@dataclass(frozen=True)
class HubSet:
    """Where a data set lies on the hub; `dev` is None when the set has no such split."""

    repo: str
    config: str
    dev: str | None = "validation"


HUB_SETS = {
    "rotten_tomatoes": HubSet("cornell-movie-review-data/rotten_tomatoes", "default"),
    "emotion": HubSet("dair-ai/emotion", "split"),
    "yelp": HubSet("Yelp/yelp_review_full", "yelp_review_full", dev=None),
}


def cached_hub_folder(key: str) -> Path | None:
    """Return the cached folder of a hub data set if it has all its splits, else None."""
    where = HUB_SETS[key]
    folders = [
        cached_snapshot(
            where.repo, PARQUET, filename=f"{where.config}/{split}/0000.parquet", kind="dataset"
        )
        for split in ("train", where.dev, "test")
        if split is not None
    ]
    return None if None in folders else folders[0]


def read_hub(key: str) -> TextDataset:
    """Return a data set from the Hugging Face cache, fetched first if it is not there.

    The set's own splits are kept; yelp has no dev split and gives one training text in ten.

    Raises
    ------
    ConnectionError
        When it is not cached and the hub cannot be reached (within 10 seconds).
    ModuleNotFoundError
        When the extra that reads Parquet files is not installed.
    """
    where = HUB_SETS[key]
    folder = cached_hub_folder(key) or fetch_snapshot(
        where.repo,
        PARQUET,
        patterns=(f"{where.config}/*.parquet",),
        kind="dataset",
        instead=INSTEAD_OF_DATA,
    )
    data = folder / where.config
    dev = None if where.dev is None else list(_pairs(data / where.dev))
    train, dev_split, test = own_splits(_pairs(data / "train"), dev, _pairs(data / "test"))
    source = f"the Hugging Face hub: {where.repo}"
    return TextDataset(key, LABEL_NAMES[key], train, dev_split, test, source, folder.name)


def _pairs(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield (text, label) from the Parquet files of one split, in the order of their names."""
    try:
        from pyarrow import ArrowInvalid, parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "reading a hub data set needs pyarrow: pip install 'allora-lab[hub]'"
        ) from error
    for path in sorted(folder.glob("*.parquet")):
        try:
            columns = parquet.read_table(path, columns=["text", "label"]).to_pydict()
        except ArrowInvalid as error:
            raise ValueError(
                f"{path} is damaged or cut short: delete it and run again to fetch it anew"
            ) from error
        yield from zip(columns["text"], columns["label"], strict=True)
