# SPDX-License-Identifier: Apache-2.0
"""The path-finder: a safe order of live migrations to a target."""
