"""A real decoder that trains in seconds on a laptop: TinyStories-656K, a Llama of 656,000 parameters.

Trained on children's stories; it writes simple English and knows next to nothing.  What works on it
shows that a method runs, not how well it does on a large model.
"""

from pathlib import Path

from allora_lab.files import local_data_folder

SMALL_DECODER = "tinystories-656k"
SMALL_DECODER_ON_HUB = "raincandy-u/TinyStories-656K"


def local_small_decoder() -> Path | None:
    """Return its folder below ALLORA_LAB_DATA, or None when it is not there."""
    data = local_data_folder()
    folder = data / SMALL_DECODER if data else None
    return folder if folder and folder.is_dir() else None
