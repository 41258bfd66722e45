# SPDX-License-Identifier: Apache-2.0
"""A cloud in memory, to try the whole program on."""
