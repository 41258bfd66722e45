# SPDX-License-Identifier: Apache-2.0
"""A violated rule, on its way to the verdict."""


class Broken(Exception):
    """The plan violates a rule.

    Parameters
    ----------
    kind
        Which, see the package's list.
    migration
        Id of the migration at fault, None when it is the whole document.
    detail
        One line for people.
    """

    def __init__(self, kind: str, migration: str | None, detail: str) -> None:
        super().__init__(kind, migration, detail)
        self.kind = kind
        self.migration = migration
        self.detail = " ".join(detail.split())
