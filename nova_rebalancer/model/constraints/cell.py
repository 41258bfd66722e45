# SPDX-License-Identifier: Apache-2.0
"""Nothing migrates live from one Nova cell to another.

Nova: ``conductor/tasks/live_migrate.py`` asks the scheduler for hosts of the source's cell only.
The API does not show cells.  Where nobody tells of any host, and nothing shows that there are
several, a cloud is taken to have one cell.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = True


def key(host: cloud.Host) -> Hashable:
    """Return the cell."""
    return base.nova_cell(host)


def refuses(view: base.View, source: cloud.Host, dest: cloud.Host) -> str | None:
    """Say that the cells differ or are not known."""
    here, there = base.nova_cell(source), base.nova_cell(dest)
    if here is not None and there is not None:
        if here == there:
            return None
        return f"{source.service_host} is in Nova cell {here}, {dest.service_host} in {there}"
    if not view.cells_told and not view.snapshot.several_cells:
        return None
    unknown = source if here is None else dest
    return f"the Nova cell of {unknown.service_host} is not known; a facts file can tell it"
