# SPDX-License-Identifier: Apache-2.0
"""Planners: where the instances should be."""
