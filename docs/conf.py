"""Sphinx: ``make docs`` writes the manual to docs/_build."""

import re
from pathlib import Path

project = "cyhorn"
copyright = "the cyhorn contributors"
_source = (Path(__file__).parent.parent / "cyhorn/__init__.py").read_text()
release = version = re.findall(r'__version__ = "(.+)"', _source)[0]
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
exclude_patterns = ["_build"]
# Links out of docs/ are for those who read in the repository; tests/manual follows every link.
suppress_warnings = ["myst.xref_missing", "toc.not_included"]
