# SPDX-License-Identifier: Apache-2.0
"""A path written down as a plan document, for the checker."""

import datetime
import hashlib

from nova_rebalancer.model import path
from nova_rebalancer.model import plan_document
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import fragmentation
from tests import clouds


def plan(made: clouds.Document, start: state.PlacementState, found: path.MigrationPath) -> bytes:
    """The plan document of ``found`` on the snapshot ``made``; it claims no bound."""
    goal = fragmentation.Fragmentation(clouds.CORES)
    written = plan_document.Plan(
        snapshot=clouds.facts_of(made),
        snapshot_sha256=hashlib.sha256(clouds.as_bytes(made)).hexdigest(),
        start=start,
        path=found,
        steps=goal.trace(start, [migration.hop for migration in found.migrations]),
        before=goal.evaluate(start),
        after=goal.evaluate(found.replay(start)),
        bound=None,
        status="feasible",
        goal="fragmentation",
        planner="test",
        options={"seed": 0, "max_migrations": 10**7, "fragment_cores": clouds.CORES},
        runtime_s=0.0,
    )
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return plan_document.dumps(plan_document.document(written, "p", moment, 60.0, {}))
