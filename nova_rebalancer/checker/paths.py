# SPDX-License-Identifier: Apache-2.0
"""Does a path do what it says of its question, and is a verdict "not reachable" proved?"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import certificates
from nova_rebalancer.checker import checks
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import moments
from nova_rebalancer.checker import options
from nova_rebalancer.checker import question
from nova_rebalancer.checker import rules
from nova_rebalancer.checker import timing

SCHEMA = "path-result-1.json"


def read(data: bytes) -> list[documents.Document]:
    """Return the paths in a document, which is one of them or a list.

    Raises
    ------
    Broken
        Of kind ``format``.
    """
    try:
        document, _ = documents.decode(data)
    except documents.Malformed as error:
        raise broken.Broken("format", None, str(error)) from error
    answers: list[Any] = document if isinstance(document, list) else [document]
    for i, answer in enumerate(answers):
        try:
            documents.accept(answer, SCHEMA)
        except documents.Malformed as error:
            where: list[str | int] = [i] if isinstance(document, list) else []
            wrong = documents.Malformed([*where, *error.path], error.reason)
            raise broken.Broken("format", None, str(wrong)) from error
    return answers


def check(asked: question.Question, answer: documents.Document) -> None:
    """Raise Broken at the first thing that is wrong with one path."""
    _verdict(answer)
    plan = {
        # What a plan has beside what it shares with a path.
        **answer,
        "excluded": [],
        "unreachable": answer.get("unreachable", []),
        "options": answer.get("options", {}),
    }
    given = options.read(plan)
    _same_question(asked, answer)
    kept = checks.read(asked.cloud, plan)
    asked = dataclasses.replace(asked, cloud=facts.keeping_apart(asked.cloud, kept.apart))
    rules.names(asked.cloud, plan)
    _blocking(asked, answer)
    depends_on = rules.dependencies(plan)
    rules.stated_order(plan, depends_on)
    hops = rules.hops(asked.cloud, plan, given, kept.stay)
    rules.chains(plan, depends_on)
    rules.numa_order(asked.cloud, plan, hops, depends_on)
    load = facts.load(asked.cloud, asked.cloud.placement)
    moments.check(asked.cloud, plan, hops, depends_on, load, kept)
    timing.check(asked, answer)
    _cost(asked, answer)
    if answer["reachable"] is True:
        _arrives(asked, hops)
    if answer["reachable"] is False:
        certificates.verify(asked, given, kept, answer["certificate"])
    _known(asked.known, answer)
    rules.providers(asked.cloud, plan)


def _verdict(answer: documents.Document) -> None:
    """What is said of the whole fits together."""
    reachable, why = answer["reachable"], None
    if reachable is False:
        if answer["migrations"]:
            why = "reachable is false, and there are migrations"
        elif answer["certificate"] is None:
            why = "reachable is false without a certificate"
        elif answer["cost"] is not None or not answer["optimal"]:
            why = "reachable is false, so cost must be null and optimal true"
    elif answer["certificate"] is not None:
        why = f"reachable is {str(reachable).lower()}, and there is a certificate that it is not"
    elif reachable is True and (answer["cost"] is None or answer.get("unreachable")):
        why = "reachable is true, and there is no cost, or something is left unreachable"
    elif reachable == "unknown" and answer["optimal"]:
        why = "reachable is unknown, and optimal is true"
    if why is not None:
        raise broken.Broken("verdict", None, why)


def _same_question(asked: question.Question, answer: documents.Document) -> None:
    """The path was made for this snapshot and target, with the same stops and starts."""
    if asked.id is not None:
        return
    for key, value in (
        ("snapshot_sha256", asked.cloud.sha256),
        ("stops", sorted(asked.stops)),
        ("starts", [{"instance": name, "host": host} for name, host in asked.starts.items()]),
    ):
        said = answer.get(key)
        if isinstance(value, list):
            said, value = (sorted(some or [], key=str) for some in (said, value))
        if said != value:
            raise broken.Broken(
                "snapshot_mismatch", None, f"{key} is {said}, of the question it is {value}"
            )
    if (asked.stops or asked.starts) and not answer.get("options", {}).get("allow_stop"):
        raise broken.Broken(
            "verdict", None, "the target stops or starts instances, and allow_stop is not set"
        )


def _blocking(asked: question.Question, answer: documents.Document) -> None:
    for host in answer["blocking_hosts"]:
        if host not in asked.cloud.by_service:
            raise broken.Broken("unknown_host", None, f'blocking_hosts: no service host "{host}"')


def _cost(asked: question.Question, answer: documents.Document) -> None:
    """The cost is the sum over the migrations."""
    if answer["cost"] is None or answer.get("options", {}).get("cost", "memory") != "memory":
        # What other costs an operator has is not known here.
        return
    total = 0
    for one in answer["migrations"]:
        name = one["instance"]
        memory = asked.cloud.instances[name].allocations.get("MEMORY_MB", 0)
        total += memory if asked.costs is None else asked.costs[name]
    if abs(answer["cost"] - total) > 1e-6:
        raise broken.Broken(
            "cost", None, f"cost is {answer['cost']:g}, its migrations cost {total}"
        )


def _arrives(asked: question.Question, hops: list[rules.Hop]) -> None:
    """The migrations lead to the target."""
    final = dict(asked.cloud.placement)
    final.update({hop.instance: hop.dest for hop in hops})
    for name, goal in asked.target.items():
        place = final[name]
        there = asked.cloud.hosts[place.host].name
        if place.host != goal.host:
            raise broken.Broken(
                "target",
                None,
                f'instance "{name}" ends on host "{there}", the target has it on '
                f'"{asked.cloud.hosts[goal.host].name}"',
            )
        chosen = asked.cloud.document["numa_choice"] == "nova"
        if goal.cells not in (None, place.cells) and not chosen:
            raise broken.Broken(
                "target",
                None,
                f'instance "{name}" ends on cells {place.cells} of host "{there}", the target has '
                f"it on {goal.cells}",
            )


def _known(known: Mapping[str, Any], answer: documents.Document) -> None:
    """Nothing contradicts what the file of cases says is proved."""
    truth, least = known.get("reachable"), known.get("optimal_cost")
    if truth is not None and answer["reachable"] not in (truth, "unknown"):
        raise broken.Broken(
            "verdict",
            None,
            f"reachable is {answer['reachable']}, the file knows that it is {truth}",
        )
    if answer["reachable"] is True and least is not None:
        if answer["optimal"] and answer["cost"] > least:
            raise broken.Broken(
                "cost", None, f"cost {answer['cost']:g} is called optimal, a path costs {least}"
            )
