# SPDX-License-Identifier: Apache-2.0
"""The results of a simulation as a document, a table and a picture."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.sim import arrivals
from nova_rebalancer.sim import days

FORMAT = "nova-rebalancer-simulation/1"

COLUMNS = (
    "policy", "days", "boots", "refused", "refused_cores", "migrations", "moved_gib",
    "fragment_rate", "active_hosts", "half_life_h",
)  # fmt: skip

RESIZES = ("resizes", "refused_resizes")
"""More columns, where any instance was resized."""

COMPLETE, INTERRUPTED = "complete", "interrupted"


def document(
    head: Mapping[str, Any], runs: Iterable[days.Run], begun_s: float, complete: bool
) -> dict[str, Any]:
    """Return the document of all runs; times in it count from ``begun_s``."""
    return {
        "format": FORMAT,
        **head,
        "status": COMPLETE if complete else INTERRUPTED,
        "policies": [_policy(run, begun_s) for run in runs],
    }


def dumps(document: Mapping[str, Any]) -> bytes:
    """Return the document as it is written."""
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _policy(run: days.Run, begun_s: float) -> dict[str, Any]:
    counts, samples = run.counts, run.samples
    options = None if run.policy.options is None else dataclasses.asdict(run.policy.options)
    series = {
        field.name: [getattr(one, field.name) for one in samples]
        for field in dataclasses.fields(days.Sample)
    }
    series["at_s"] = [at_s - begun_s for at_s in series["at_s"]]
    series["fragment_rate"] = series.pop("goal")
    return {
        "policy": run.policy.name,
        "every_s": run.policy.every_s if options else None,
        "first_s": run.policy.first_s if options else None,
        "max_gib": None if options is None else options["max_gib"],
        "options": options,
        "days": (run.until_s - begun_s) / arrivals.DAY_S,
        "boots": counts.boots,
        "refused": counts.refused,
        "refused_cores": counts.refused_cores,
        "refused_by_flavor": dict(sorted(counts.refused_by_kind.items())),
        "resizes": counts.resizes,
        "refused_resizes": counts.refused_resizes,
        "departures": counts.departures,
        "migrations": counts.migrations,
        "moved_gib": counts.moved_mib / 1024,
        "dropped_migrations": counts.dropped,
        "fragment_rate": _mean([one.goal for one in samples]),
        "active_hosts": _mean([one.active_hosts for one in samples]),
        "half_life_h": None if run.half_life_s is None else run.half_life_s / 3600,
        "plans": [{**dataclasses.asdict(plan), "at_s": plan.at_s - begun_s} for plan in run.plans],
        "series": series,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def columns(written: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns of the table of a document."""
    resized = any(one["resizes"] for one in written["policies"])
    return (*COLUMNS, *RESIZES) if resized else COLUMNS


def rows(written: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return a row of its columns for each policy of a document."""
    places = {"days": 1, "moved_gib": 0, "fragment_rate": 4, "active_hosts": 1, "half_life_h": 1}

    def rounded(name: str, value: Any) -> Any:
        return round(value, places[name]) if name in places and value is not None else value

    names = columns(written)
    return [tuple(rounded(name, one[name]) for name in names) for one in written["policies"]]


def check_picture(path: str) -> None:
    """See that a picture can be drawn into the file ``path`` at the end.

    Raises
    ------
    UsageError
        If its name does not end with .svg or .png, or matplotlib is not installed.
    """
    if not path.endswith((".svg", ".png")):
        raise exceptions.UsageError(f"--plot {path}: the name must end with .svg or .png")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise exceptions.UsageError(
            "--plot needs matplotlib, which is not installed here: "
            "pip install 'nova-rebalancer[plot]'"
        ) from None


def draw(written: Mapping[str, Any], path: str) -> None:
    """Draw the series of a document into a file: one line for each policy.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import matplotlib
    from matplotlib import figure

    cores = ", ".join(map(str, written["options"]["fragment_cores"]))
    panels = (
        ("fragment_rate", f"fragment rate ({cores} cores)"),
        ("active_hosts", "active hosts"),
        ("migrations", "migrations, in all"),
        ("refused", "refused boots, in all"),
    )
    # The same series make the same file.
    with matplotlib.rc_context({"svg.hashsalt": FORMAT}):
        sheet = figure.Figure(figsize=(9, 10), layout="constrained")
        axes = sheet.subplots(len(panels), 1, sharex=True)
        for ax, (name, label) in zip(axes, panels, strict=True):
            for one in written["policies"]:
                at_d = [at_s / arrivals.DAY_S for at_s in one["series"]["at_s"]]
                ax.plot(at_d, one["series"][name], linewidth=1.2, label=one["policy"])
            ax.set_ylabel(label)
            ax.set_ylim(bottom=0)
            ax.grid(alpha=0.3)
        axes[0].legend(fontsize="small")
        axes[-1].set_xlabel("days")
        metadata = {"Date": None} if path.endswith(".svg") else {"Software": None}
        try:
            sheet.savefig(path, metadata=metadata)
        except OSError as error:
            raise exceptions.InputError(f"{path}: cannot write: {error.strerror}") from None
