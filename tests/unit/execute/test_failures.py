# SPDX-License-Identifier: Apache-2.0
"""What follows from a failure."""

from nova import exception
import pytest

from nova_rebalancer.execute import base
from nova_rebalancer.execute import failures


def code_of(status: int, text: str) -> str | None:
    """The code of an answer."""
    return failures.of_refusal(base.RefusedError(status, text), text)


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (400, exception.ComputeHostNotFound(host="b").format_message(), "refused"),
        (
            400,
            exception.UnableToMigrateToSelf(instance_id="v", host="b").format_message(),
            "refused",
        ),
        (
            409,
            exception.OperationNotSupportedForVTPM(
                operation="live-migration", instance_uuid="v"
            ).format_message(),
            "never",
        ),
        (
            409,
            exception.OperationNotSupportedForMemEncryption(
                operation="live-migration", instance_uuid="v"
            ).format_message(),
            "never",
        ),
        (400, exception.VTPMOldCompute().format_message(), "never"),
        (400, exception.ExtendedResourceRequestOldCompute().format_message(), "never"),
        (409, exception.InstanceIsLocked(instance_uuid="v").format_message(), None),
        (409, "Cannot 'os-migrateLive' instance v while it is in task_state migrating", None),
        (404, exception.InstanceNotFound(instance_id="v").format_message(), "gone"),
        (401, "The request you have made requires authentication.", "forbidden"),
        (403, "Policy doesn't allow os-migrate-server:migrate_live to be performed.", "forbidden"),
        (429, "Too many requests", None),
        (503, "The service is unavailable", None),
        (0, "not sent: connection refused", None),
    ],
)
def test_of_refusal(status, text, code):
    """Nova's own words: what passes is asked again, what the instance is made of never is."""
    assert code_of(status, text) == code


def test_every_kind_is_explained():
    """The documentation says what each code means, in a sentence."""
    for code, kind in failures.KINDS.items():
        assert kind.about.endswith("."), code
        assert set(kind.blames) <= {"source", "dest"}, code


def test_what_is_nobodys_fault_breaks_nothing():
    """A deleted instance, or a person's abort, neither stops a run nor speaks against a host."""
    for code in ("gone", "aborted_by_others"):
        kind = failures.KINDS[code]
        assert not kind.counts and not kind.blames and not kind.stops, code


def test_what_a_person_must_look_at_is_left_alone():
    """An instance in ERROR, and one that somebody gave up, is not moved for a while."""
    assert failures.KINDS["in_error"].learns
    assert failures.KINDS["aborted_by_others"].learns
