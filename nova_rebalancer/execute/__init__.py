# SPDX-License-Identifier: Apache-2.0
"""Carrying migrations out: the only code that changes a cloud."""
