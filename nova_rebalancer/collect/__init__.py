# SPDX-License-Identifier: Apache-2.0
"""Readers of clouds: each gives one snapshot."""
