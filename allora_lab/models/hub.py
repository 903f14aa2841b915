"""The Hugging Face hub: asked for only what the cache lacks, and never waited for in vain."""

import http.client
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

REQUEST_SECONDS = 4.0
WAIT_SECONDS = 5.0  # a name look-up that hangs obeys no request timeout; a joined thread does
MODEL_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors")
INSTEAD_OF_A_MODEL = "use the model minilm or a local folder"
INSTEAD_OF_DATA = "use one of the *_rated sets, or let ALLORA_LAB_DATA name a folder that holds it"


def require_hub(what: str, instead: str = INSTEAD_OF_A_MODEL) -> None:
    """Raise ConnectionError, within 5 seconds, unless the hub answers.

    One request goes to the endpoint that huggingface_hub is set to (HF_ENDPOINT names another).
    With HF_HUB_OFFLINE set nothing is asked and the error comes at once.

    Parameters
    ----------
    what
        The thing wanted, in words, such as "the model openai-community/gpt2".
    instead
        What can be done without the hub, as an imperative.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        reason = "HF_HUB_OFFLINE is set"
    else:
        reason = _why_unreachable(constants.ENDPOINT)
    if reason:
        raise ConnectionError(
            f"{what} is not in the Hugging Face cache and the hub cannot be reached ({reason}): "
            f"{instead}, or go online (HF_ENDPOINT names a mirror), or copy it into the cache "
            f"folder {constants.HF_HUB_CACHE}"
        )


def _why_unreachable(endpoint: str) -> str:
    """Return why the endpoint does not answer, or an empty string when it does."""
    reasons: list[str] = []
    thread = threading.Thread(target=_probe, args=(endpoint, reasons), daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    return reasons[0] if reasons else f"no answer within {WAIT_SECONDS:g} seconds"


def _probe(endpoint: str, reasons: list[str]) -> None:
    """Ask once and append the reason for failing; any answer below 500 counts as an answer."""
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        urllib.request.urlopen(request, timeout=REQUEST_SECONDS).close()
        reasons.append("")
    except urllib.error.HTTPError as error:
        reasons.append("" if error.code < 500 else f"it answers {error.code}")
        error.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        # something answers, and huggingface_hub brings certificates of its own
        bad_certificate = isinstance(cause, ssl.SSLCertVerificationError)
        reasons.append("" if bad_certificate else str(cause) or type(error).__name__)


def cached_snapshot(
    repo: str, revision: str | None, *, filename: str = "config.json", kind: str = "model"
) -> Path | None:
    """Return the cached folder of a repository's revision if it holds `filename`, else None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, filename, revision=revision, repo_type=kind)
    if not isinstance(found, str):
        return None
    return Path(found.removesuffix(filename))


def fetch_snapshot(
    repo: str,
    revision: str | None,
    *,
    patterns: Sequence[str] = MODEL_FILES,
    kind: str = "model",
    instead: str = INSTEAD_OF_A_MODEL,
) -> Path:
    """Download the files of one repository into the Hugging Face cache and return their folder.

    The folder is named after the commit.  Files of Python are left out: nothing fetched is run.

    Parameters
    ----------
    repo
        The hub id, org/name.
    revision
        A branch, tag or commit; None is the main branch.
    patterns
        Which files; a `*` also crosses folders.
    kind
        "model" or "dataset".
    instead
        See `require_hub`.

    Raises
    ------
    ConnectionError
        When the hub cannot be reached or stops answering.
    ValueError
        When the hub has no such repository or revision, or does not show it without a login.
    """
    from huggingface_hub import errors, snapshot_download

    what = f"the {kind} {repo}"
    require_hub(what, instead)
    try:
        folder = snapshot_download(
            repo,
            repo_type=kind,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=["*.fp16.safetensors"],
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise ValueError(
            f"the Hugging Face hub has no public {kind} {repo!r}{at}: check the spelling, or log "
            f"in with `hf auth login` if it is private or gated"
        ) from error
    except (OSError, errors.HTTPError) as error:  # the latter is of whichever client it is built on
        raise ConnectionError(
            f"the download of {what} broke off ({type(error).__name__}): run again, or {instead}"
        ) from error
    return Path(folder)
