# SPDX-License-Identifier: Apache-2.0
"""One module for each step; one that was released never changes.

MariaDB commits after each table, so what was killed in the middle is done again on what is there:
every step says ``if_not_exists`` and ``if_exists``.
"""
