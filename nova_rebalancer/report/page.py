# SPDX-License-Identifier: Apache-2.0
"""One page about a plan, or about a path alone: a single file that needs nothing else."""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import json
from typing import Any

from nova_rebalancer.report import gantt
from nova_rebalancer.report import objective
from nova_rebalancer.report import words

Document = Mapping[str, Any]

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2530;--pale:#5a6675;--rule:#d5dbe2;
--band:#f3f5f8;--leaves:#2b6cb0;--arrives:#b7580f;--on:#fff;--waits:#3d4754;--before:#7d8897;
--after:#2b6cb0;--bound:#2f7d4f}
@media(prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e3e8ee;--pale:#9aa7b5;
--rule:#38414c;--band:#1b2027;--leaves:#7ab3ec;--arrives:#f0a35c;--on:#10151b;--waits:#c3ccd6;
--before:#98a4b2;--after:#7ab3ec;--bound:#7fce9f}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px;max-width:1260px;background:var(--paper);color:var(--ink);
font:15px/1.45 system-ui,sans-serif}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}
p{margin:4px 0}.pale,figcaption{color:var(--pale)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));
gap:12px 24px;margin:16px 0}
dt{color:var(--pale);font-size:13px}dd{margin:0;font-size:18px;overflow-wrap:anywhere}
figure{margin:0}.wide{overflow-x:auto}
svg{display:block}svg text{font:12px ui-monospace,"DejaVu Sans Mono",monospace;fill:var(--ink)}
svg .host{font-size:11.5px;text-anchor:end}svg .time{text-anchor:middle;fill:var(--pale)}
svg .band{fill:var(--band)}svg .tick{stroke:var(--rule)}
svg .leaves rect,.key.leaves{fill:var(--leaves);background:var(--leaves)}
svg .arrives rect,.key.arrives{fill:var(--arrives);background:var(--arrives)}
svg .bypass rect{fill:var(--paper);stroke-width:1.5;stroke-dasharray:3 2}
svg .bypass.leaves rect{stroke:var(--leaves)}svg .bypass.arrives rect{stroke:var(--arrives)}
svg .id{font-size:10px;text-anchor:middle;fill:var(--on);pointer-events:none}
svg .id.bypass{fill:var(--ink)}
svg .waits{fill:none;stroke:var(--waits);stroke-width:1.1;pointer-events:none}
svg .tip{fill:var(--waits)}
svg .before{fill:var(--before)}svg .after{fill:var(--after)}svg .bound{fill:var(--bound)}
.key{display:inline-block;width:22px;height:11px;border-radius:2px;margin:0 6px 0 16px}
.key.dashed{background:none;border:1.5px dashed var(--pale)}
.key:first-child{margin-left:0}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{padding:4px 10px 4px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--rule)}
th{color:var(--pale);font-weight:600;white-space:nowrap}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.name{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:12px;overflow-wrap:anywhere;
min-width:9ch}td.instance{min-width:20ch}
td.why{min-width:22ch}td.place{white-space:nowrap}
summary{cursor:pointer;color:var(--pale);margin:12px 0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px;background:var(--band);padding:12px}
@media print{body{padding:0}.wide{overflow:visible}}
"""


def page(document: Document) -> str:
    """Return the HTML page of a plan document, or of what ``nova-rebalance path`` prints."""
    migrations = document["migrations"]
    title = f"Plan {document['id']}" if "goal" in document else f"Path {document.get('id', '')}"
    parts = [
        f"<h1>{words.escaped(title.strip())}</h1>",
        _where(document),
        _facts(document, migrations),
        objective.section(document),
    ]
    if migrations:
        parts += ["<h2>Migrations per host</h2>", _chart(migrations), "<h2>Migrations</h2>"]
        parts.append(_table(migrations))
    else:
        parts.append("<h2>Migrations</h2><p>There are none.</p>")
    for key, heading in (("unreachable", "Not reached"), ("excluded", "Not moved")):
        parts.append(_left_out(heading, document.get(key, ())))
    if "options" in document:
        text = json.dumps(document["options"], indent=1, ensure_ascii=False)
        parts.append(
            f"<details><summary>Options</summary><pre>{words.escaped(text)}</pre></details>"
        )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{words.escaped(title.strip())}</title><style>{STYLE}</style></head><body>"
        + "\n".join(part for part in parts if part)
        + "</body></html>\n"
    )


def _where(document: Document) -> str:
    """Say what it is for and when it was made."""
    said = []
    if document.get("cloud") is not None:
        region = f", region {document['region']}" if document.get("region") else ""
        said.append(f"Cloud {document['cloud']}{region}")
    for key, text in (
        ("snapshot_taken_at", "as it was at"),
        ("created_at", "made at"),
        ("expires_at", "expires at"),
    ):
        if document.get(key):
            said.append(f"{text} {document[key]}")
    return f'<p class="pale">{words.escaped(", ".join(said))}</p>' if said else ""


def _facts(document: Document, migrations: Sequence[Document]) -> str:
    """Return the numbers that a person wants first."""
    memory = sum(one["memory_mib"] or 0 for one in migrations)
    whole_s = max((one["end_s"] for one in migrations), default=0.0)
    bypasses = sum(one["role"] == "bypass" for one in migrations)
    found: list[tuple[str, object]] = []
    for key, name in (("goal", "Goal"), ("planner", "Planner"), ("status", "Status")):
        if key in document:
            found.append((name, document[key]))
    if "reachable" in document:
        found.append(
            ("Reachable", {True: "yes", False: "no"}.get(document["reachable"], "unknown"))
        )
    if document.get("cost") is not None:
        proved = " (proved least)" if document.get("optimal") else ""
        found.append(("Cost", f"{document['cost']:g}{proved}"))
    stops = f", {bypasses} of them stops on the way" if bypasses else ""
    found.append(("Migrations", f"{len(migrations)}{stops}"))
    if memory:
        found.append(("Memory to copy", words.size(memory)))
    if migrations:
        found.append(("Estimated time", words.duration(whole_s)))
    if document.get("makespan_bound_s"):
        found.append(("Time at least", words.duration(document["makespan_bound_s"])))
    for key, name in (("stops", "Stopped first"), ("starts", "Started last")):
        if document.get(key):
            found.append((name, f"{len(document[key])} instances"))
    if document.get("blocking_hosts"):
        found.append(("Hosts without room", ", ".join(document["blocking_hosts"])))
    return (
        "<dl>"
        + "".join(
            f"<div><dt>{words.escaped(name)}</dt><dd>{words.escaped(value)}</dd></div>"
            for name, value in found
        )
        + "</dl>"
    )


def _chart(migrations: Sequence[Document]) -> str:
    return (
        '<figure><p class="pale"><span class="key leaves"></span>leaves the host'
        '<span class="key arrives"></span>comes to the host<span class="key dashed"></span>'
        "a stop on the way &nbsp;&nbsp; → starts when the other is done. Times are estimates.</p>"
        f'<div class="wide">{gantt.svg(migrations)}</div></figure>'
    )


def _table(migrations: Sequence[Document]) -> str:
    heads = ("Id", "Instance", "From", "To", "Memory", "Wave", "Start", "End", "Waits for", "Why")
    numbers = {"Memory", "Wave", "Start", "End"}
    rows = [
        (
            one["id"],
            one["instance"],
            _place(one["source"], one["source_numa"]),
            _place(one["dest"], one["dest_numa"]),
            "–" if one["memory_mib"] is None else words.size(one["memory_mib"]),
            one["wave"],
            words.duration(one["start_s"]),
            words.duration(one["end_s"]),
            ", ".join(one["depends_on"]) or "–",
            one["reason"]["text"],
        )
        for one in migrations
    ]
    kinds = {"Memory": "n", "Wave": "n", "Start": "n", "End": "n", "Why": "why"}
    kinds |= {
        "Instance": "name instance",
        "Id": "name place",
        "From": "name place",
        "To": "name place",
    }
    head = "".join(
        f'<th class="n">{name}</th>' if name in numbers else f"<th>{name}</th>" for name in heads
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{kinds.get(name, "name")}">{_short(value)}</td>'
            if name in ("From", "To")
            else f'<td class="{kinds.get(name, "name")}">{words.escaped(value)}</td>'
            for name, value in zip(heads, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _short(place: object) -> str:
    """Return a host that may have a long name; all of it shows under the mouse."""
    text = str(place)
    return f'<span title="{words.escaped(text)}">{words.escaped(words.shortened(text, 26))}</span>'


def _place(host: str, cells: Iterable[int | None] | None) -> str:
    """Write a host with its NUMA cells, as the table of ``plan`` does."""
    if cells is None:
        return host
    return host + ":" + "+".join("?" if cell is None else str(cell) for cell in cells)


def _left_out(heading: str, entries: Sequence[Document]) -> str:
    """List instances with reasons, counted by code above."""
    if not entries:
        return ""
    counts = collections.Counter(one["reason"]["code"] for one in entries)
    said = ", ".join(f"{code} {count}" for code, count in counts.most_common())
    rows = "".join(
        f'<tr><td class="name">{words.escaped(one["instance"])}</td>'
        f'<td class="why">{words.escaped(one["reason"]["text"])}</td></tr>'
        for one in entries
    )
    return (
        f"<h2>{heading}</h2><details><summary>{len(entries)} instances: {words.escaped(said)}"
        f"</summary><table><tbody>{rows}</tbody></table></details>"
    )
