"""Scores of generated texts against what people wrote: BLEU, ROUGE-L and METEOR, from libraries.

BLEU is sacrebleu's, of the corpus, tokenised as mteval-v13a, case kept.  ROUGE-L is rouge-score's F of
the longest common subsequence, the best of the references.  METEOR is NLTK's with exact words and
stems; its third stage, synonyms, needs WordNet, which is not fetched, so it is left out and the
score is a little lower than with it.  The E2E challenge's own script has another ROUGE-L (beta 1.2)
and METEOR 1.5 in Java: numbers here are compared with each other, not with the paper's.  Its NIST and
CIDEr are left out.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

LIBRARIES = ("nltk", "rouge_score", "sacrebleu")


class _NoSynonyms:
    """A WordNet without an entry."""

    @staticmethod
    def synsets(_word: str, *_more: Any) -> list[Any]:
        """Return no synonym."""
        return []


def require_libraries() -> None:
    """Raise ModuleNotFoundError unless the extra `generation` is installed."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"scoring generated text needs {', '.join(missing)}: pip install 'allora-lab[generation]'"
        )


def text_scores(written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return `bleu`, `rouge_l` and `meteor` from 0 to 1; the two latter are means over texts.

    Raises
    ------
    ValueError
        If there is no text, or a text has no reference.
    ModuleNotFoundError
        If the extra `generation` is not installed.
    """
    if not written or len(written) != len(references) or not all(references):
        raise ValueError(
            f"each text needs references and there must be one text, got {len(written)} texts and "
            f"references for {sum(map(bool, references))}"
        )
    require_libraries()
    from nltk.translate.meteor_score import meteor_score
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import corpus_bleu

    most = max(map(len, references))
    streams = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
    rouge = RougeScorer(["rougeL"], use_stemmer=False)
    pairs = list(zip(written, references, strict=True))
    longest = [rouge.score_multi(list(said), text)["rougeL"].fmeasure for text, said in pairs]
    aligned = [
        meteor_score([r.split() for r in said], text.split(), wordnet=_NoSynonyms())
        for text, said in pairs
    ]
    return {
        "bleu": corpus_bleu(list(written), streams).score / 100,
        "rouge_l": sum(longest) / len(pairs),
        "meteor": sum(aligned) / len(pairs),
    }
