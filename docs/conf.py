"""How Sphinx builds the documentation: `make docs`. Nothing is read from a network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pins
from pins.utils.repository import REPOSITORY

project = "PINS"
author = "the PINS developers"
release = pins.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docs.docstrings",
    "docs.links",
]
exclude_patterns = ["__pycache__"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
smartquotes_action = "D"  # dashes alone: m' is no quotation
highlight_language = "none"  # formulas and drawings are no Python

autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("BoolArray", "FloatArray", "Selector")}
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = f"PINS {release}"
html_static_path = ["_static"]
html_css_files = ["width.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"source_repository": REPOSITORY} if REPOSITORY else {}
