"""The static site: executed notebooks as they are stored, the pages of docs/, and the API.

The source folder is the repository itself, so that every relative link of a page is followed as
it stands; a linked file becomes a download.  Nothing is loaded from another host when a page is
viewed: KaTeX comes with its Sphinx extension and writes MathML, which browsers draw themselves.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import allora_lab

project = "allora_lab"
author = "the authors of allora_lab"
copyright = author
release = version = allora_lab.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.katex",
    "without_a_kernel",
    "every_file",
]
root_doc = "docs/site/index"
include_patterns = [
    "docs/site/*.md",
    "docs/*.md",
    "notebooks/*.ipynb",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = ["docs/fidelity_head.md", "docs/lab_notes.md"]  # a part of a page; a diary

html_theme = "furo"
html_title = "allora_lab"
html_static_path = [str(HERE / "static")]
html_extra_path = [str(HERE / "top")]  # index.html leads to the first page
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
templates_path: list[str] = []

nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # would be loaded from another host
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # what a cell shows as Markdown may have tables
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
katex_css_path = "katex-math.css"
katex_options = 'output: "mathml", throwOnError: false'

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
suppress_warnings = [
    "misc.highlighting_failure",  # a console transcript is not Python
    "myst.header",  # pages of one section begin below the first level
]
