# SPDX-License-Identifier: Apache-2.0
"""How the benchmark judges what Watcher made of a plan."""

from benchmarks.execution import watcher

MIGRATIONS = [
    {"id": "m1", "depends_on": []},
    {"id": "m2", "depends_on": ["m1"]},
    {"id": "m3", "depends_on": ["m1", "m2"]},
]


def seen(*looks: tuple[str, str, str]) -> watcher.Outcome:
    """What a look a second, with the states of the three, comes to."""
    actions = {one["id"]: watcher.Action() for one in MIGRATIONS}
    for now, states in enumerate(looks):
        for action, state in zip(actions.values(), states, strict=True):
            action.see(state, now)
    return watcher.Outcome(actions, "SUCCEEDED")


def test_begun_early():
    """Only an action that began before all it depends on had succeeded is told."""
    good = seen(
        ("ONGOING", "PENDING", "PENDING"),
        # One may begin as soon as the other has ended, within a second.
        ("SUCCEEDED", "ONGOING", "PENDING"),
        ("SUCCEEDED", "SUCCEEDED", "ONGOING"),
        ("SUCCEEDED", "SUCCEEDED", "SUCCEEDED"),
    )
    assert good.too_early(MIGRATIONS) == []
    assert (good.took_s(), good.counts()) == (3, {"SUCCEEDED": 3})

    together = seen(
        ("ONGOING", "ONGOING", "PENDING"),
        ("SUCCEEDED", "SUCCEEDED", "PENDING"),
        ("SUCCEEDED", "SUCCEEDED", "SUCCEEDED"),
    )
    assert together.too_early(MIGRATIONS) == ["m2"]

    failed = seen(
        ("ONGOING", "PENDING", "PENDING"),
        ("FAILED", "PENDING", "PENDING"),
        ("FAILED", "SKIPPED", "ONGOING"),
        ("FAILED", "SKIPPED", "SUCCEEDED"),
    )
    assert failed.too_early(MIGRATIONS) == ["m3"]
    assert failed.took_s() == 3
