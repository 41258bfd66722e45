# SPDX-License-Identifier: Apache-2.0
"""Whatever small case comes: the verdict is right, the cost the least, and the checker agrees.

The same on thousands of cases is ``python benchmarks/path_quality.py --families tiny/any``.
"""

import json
import pathlib

import pytest

from nova_rebalancer import checker
from nova_rebalancer.collect import cases
from nova_rebalancer.model import path_document
from nova_rebalancer.path import base
from nova_rebalancer.path import finder
from tests import benchmarks

path_cases = benchmarks.load("path_cases")


@pytest.mark.parametrize(
    ("family", "count"),
    [("tiny/any", 160), ("tiny/extra", 20), ("tiny/multi", 5), ("tiny/unreach_hard", 15)],
)
def test_against_all_placements(family: str, count: int, tmp_path: pathlib.Path) -> None:
    """1 to 3 resources, 3 to 5 hosts, 5 to 9 instances, rules: as the search of everything says.

    The exact search has work enough, so nothing is unknown and every cost is proved.
    """
    file = tmp_path / "cases.json"
    path_cases.write(path_cases.cases(family, 2026, count), file)
    answers = []
    for drawn, case in zip(
        json.loads(file.read_text())["instances"], cases.load(str(file)), strict=True
    ):
        found = finder.find(case.start, case.host_of, case.cells_of, case.costs, base.Limits(10**9))
        answer = path_document.document(case.id, case.start, found, 0.0)
        known = drawn["known"]
        assert answer["reachable"] is known["reachable"], case.id
        assert answer["cost"] == known["optimal_cost"], case.id
        assert answer["optimal"], case.id
        if known["optimal_rounds_1x1"] is not None:
            assert answer["makespan_bound_s"] <= known["optimal_rounds_1x1"], case.id
            assert answer["makespan_s"] >= known["cheapest_rounds_1x1"], case.id
        answers.append(answer)
    verdict = checker.check_cases(file.read_bytes(), json.dumps(answers).encode())
    assert verdict.ok, verdict.detail
