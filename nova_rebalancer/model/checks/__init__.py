# SPDX-License-Identifier: Apache-2.0
"""Checks that an operator may choose beside the rules; each kind has a module of its name."""
