# SPDX-License-Identifier: Apache-2.0
"""What the path-finder says of small cases, against every placement and the independent checker."""

import json

from hypothesis import given
from hypothesis import settings

from nova_rebalancer import checker
from nova_rebalancer.collect import cases as case_files
from nova_rebalancer.model import path_document
from nova_rebalancer.path import base
from nova_rebalancer.path import finder
from tests import cases


@settings(max_examples=60, deadline=None)
@given(case=cases.small())
def test_verdicts(case, tmp_path_factory):
    """A verdict is that of trying every move, and the checker accepts the path or the proof."""
    data = cases.as_bytes(cases.document(case))
    file = tmp_path_factory.getbasetemp() / "case.json"
    file.write_bytes(data)
    (asked,) = case_files.load(str(file))
    limits = base.Limits(1000)
    found = finder.find(asked.start, asked.host_of, asked.cells_of, asked.costs, limits)
    ends = [tuple(case[key][vm["name"]] for vm in case["vms"]) for key in ("initial", "final")]
    assert found.reachable is (ends[1] in cases.reached(case, ends[0]))
    answer = path_document.document(asked.id, asked.start, found, 0.0)
    verdict = checker.check_cases(data, json.dumps(answer).encode())
    assert verdict.ok, verdict
