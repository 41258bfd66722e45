# SPDX-License-Identifier: Apache-2.0
"""Sphinx settings of the release notes."""

project = "nova-rebalancer release notes"
author = "The nova-rebalancer authors"
copyright = f"2026, {author}"

extensions = [
    "reno.sphinxext",
]

# An option is written with two hyphens, not with a dash.
smartquotes = False

html_theme = "alabaster"
