# SPDX-License-Identifier: Apache-2.0
"""Sphinx settings of the documentation."""

import importlib.metadata
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

project = "nova-rebalancer"
author = "The nova-rebalancer authors"
copyright = f"2026, {author}"
version = release = importlib.metadata.version("nova-rebalancer")

extensions = [
    "carrying_out",
    "cliff.sphinxext",
    "oslo_config.sphinxext",
]
autoprogram_cliff_application = "nova-rebalance"

# An option is written with two hyphens, not with a dash.
smartquotes = False

html_theme = "alabaster"
html_static_path = ["_static"]
