# SPDX-License-Identifier: Apache-2.0
"""Decide where a Nova cloud's instances should be, and how to get them there safely."""
