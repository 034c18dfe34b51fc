"""docs/performance.md: the tables between its markers, made from the figures.

A marker is a line ``<!-- figures: NAME -->``; what stands between it and
``<!-- end -->`` is replaced by table NAME of TABLES. The rest of the page is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from perf.compare import figures as kept
from perf.compare.check import LESS
from perf.compare.servers import BY_NAME, ROOT

PAGE = ROOT / "docs" / "performance.md"

_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: The peers that the overview shows, beside cyhorn and the reference.
OVERVIEW = ("fastpysgi", "fastwsgi", "bjoern", "granian", "gunicorn-gthread", "gunicorn-h1c", "gunicorn")


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A Markdown table; the first row is its head, columns in `left` are left-aligned."""
    rule = ["---" if number in left else "---:" for number in range(len(rows[0]))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (rows[0], rule, *rows[1:]))


def micro(value: float) -> str:
    """A time in µs with three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 20 else f"{value:.2f}"


def megabytes(size: float) -> str:
    return f"{size / 2**20:.1f}"


def whole(server: kept.Server) -> bool:
    """Whether it ran and does the whole work."""
    return "total_us" in server and not LESS.intersection(server.get("notes", ()))


def peers(work: kept.Work) -> list[tuple[str, kept.Server]]:
    """The peers that do the whole work, the cheapest first."""
    found = [
        (label, server)
        for label, server in work["servers"].items()
        if whole(server)
        and (name := label.removesuffix(" +log")) in BY_NAME
        and not (BY_NAME[name].ours or BY_NAME[name].reference)
    ]
    return sorted(found, key=lambda pair: pair[1]["total_us"])


def run_line(figures: kept.Run) -> str:
    """Where and how the figures were taken."""
    machine = figures["machine"]
    line = (
        f"Taken {figures['taken']} at revision `{machine['revision']}` by `make compare`"
        f" ({figures['minutes']:.0f} minutes): {machine['cpus']} CPUs, {machine['cpu']}, {machine['system']},"
        f" CPython {machine['python']}; {figures['rounds']} rounds of {figures['seconds']} s,"
        f" {figures['connections']} connections."
    )
    if figures["foreign"] > 0.05:
        line += (
            f" **Provisional: other programs used {figures['foreign']:.0%} of the servers' CPU meanwhile,**"
            " which costs every server cache and makes small differences unsure."
        )
    return line


def targets(figures: kept.Run) -> str:
    """Every target beside what was measured."""
    rows = [["work", "what", "target", "measured", ""]]
    before = ""
    for title, item in kept.judged(figures):
        rows.append(
            [
                title if title != before else "",
                item["target"],
                f"≤ {item['bound']:.2f}",
                f"{item['measured']:.2f}",
                "met" if item["met"] else "**missed**",
            ]
        )
        before = title
    return table(rows, left=(0, 1, 4))


def overview(figures: kept.Run) -> str:
    """CPU per request of the main servers at each work."""
    labels = ["reference", "cyhorn", "cyhorn-pure", *OVERVIEW]
    rows = [["work", *labels]]
    for name, work in figures["works"].items():
        if name == "log":
            continue
        cells = []
        for label in labels:
            server = work["servers"].get(label, {})
            cell = micro(server["total_us"]) if "total_us" in server else "-"
            cells.append(cell if whole(server) or cell == "-" else f"({cell})")
        rows.append([f"{name}: {work['title']}", *cells])
    return table(rows)


def best(figures: kept.Run) -> str:
    """cyhorn beside the limit and the cheapest peer that does the whole work."""
    rows = [["work", "µs/request", "user", "x reference", "best peer", "its µs", "cyhorn / peer"]]
    for name, work in figures["works"].items():
        if name == "log" or "total_us" not in (ours := work["servers"].get("cyhorn", {})):
            continue
        label, peer = next(iter(peers(work)), ("-", None))
        rows.append(
            [
                name,
                micro(ours["total_us"]),
                micro(ours["user_us"]),
                f"{ours['of_reference']:.2f}" if ours["of_reference"] else "-",
                label,
                micro(peer["total_us"]) if peer else "-",
                f"{ours['total_us'] / peer['total_us']:.2f}" if peer else "-",
            ]
        )
    return table(rows, left=(0, 4))


def log(figures: kept.Run) -> str:
    """What the access log adds."""
    servers = figures["works"].get("log", {}).get("servers", {})
    rows = [["server", "without", "with", "adds µs"]]
    for label, server in servers.items():
        with_log = servers.get(f"{label} +log", {})
        if "total_us" in server and "total_us" in with_log:
            adds = with_log["total_us"] - server["total_us"]
            rows.append([label, micro(server["total_us"]), micro(with_log["total_us"]), f"{adds:.2f}"])
    return table(rows)


def big(figures: kept.Run) -> str:
    """Big bodies: milliseconds of CPU for each, and how far the largest process grew."""
    names = [name for name in ("large", "file", "upload") if name in figures["works"]]
    rows = [["server", *(cell for name in names for cell in (f"{name}: ms", "grows by MB"))]]
    for label in dict.fromkeys(label for name in names for label in figures["works"][name]["servers"]):
        cells = []
        for name in names:
            server = figures["works"][name]["servers"].get(label, {})
            if "total_us" in server:
                grown = server["peak_bytes"] - server["start_bytes"]
                time = f"{server['total_us'] / 1000:.2f}"
                cells += [time if whole(server) else f"({time})", megabytes(grown)]
            else:
                cells += ["-", "-"]
        if any(cell != "-" for cell in cells):
            rows.append([label, *cells])
    return table(rows)


def thread(figures: kept.Run) -> str:
    """What the server leaves a background thread of the application."""
    rows = [["server", "µs/request", "turns of the thread while idle, while loaded"]]
    for label, server in figures["works"].get("thread", {}).get("servers", {}).items():
        if "total_us" in server and BY_NAME[label].reference is False:
            notes = ", ".join(note for note in server.get("notes", ()) if "thread" in note)
            rows.append([label, micro(server["total_us"]), notes])
    return table(rows, left=(0, 2))


def crowds(figures: kept.Run) -> str:
    """Idle connections and slow readers."""
    rows = [["beside", "server", "bytes each", "p99 ms without", "with", "µs/request without", "with"]]
    for name in ("idle", "slow"):
        for one in figures.get(name, ()):
            if "problem" in one:
                rows.append([name, one["server"], one["problem"], "", "", "", ""])
                continue
            rows.append(
                [
                    f"{one['connections']:,} {name}",
                    one["server"],
                    f"{one['unique_each']:,.0f}",
                    *(f"{one[key] / 1000:.2f}" for key in ("p99_us_before", "p99_us_with")),
                    *(micro(one[key]) for key in ("cpu_us_before", "cpu_us_with")),
                ]
            )
    return table(rows, left=(0, 1))


def scaling(figures: kept.Run) -> str:
    """Workers that share two CPUs with the client."""
    rows = [["server", "workers", "requests/s", "µs/request", "busiest / mean", "wake-ups per connection"]]
    for one in figures.get("scale", ()):
        if "problem" in one:
            rows.append([one["server"], str(one["workers"]), one["problem"], "", "", ""])
            continue
        rows.append(
            [
                one["server"],
                str(one["workers"]),
                f"{one['requests_per_second']:,.0f}",
                micro(one["cpu_us"]),
                f"{one['share']:.2f}" if one["share"] else "closes each",
                f"{one['wakes']:.2f}",
            ]
        )
    return table(rows)


def threads(figures: kept.Run) -> str:
    """Threads for the application."""
    rows = [["server", "hello, µs", "x its sync worker", "calls at a time", "fast p50 ms", "p99 ms"]]
    for one in figures.get("threads", ()):
        if "problem" in one:
            rows.append([one["server"], one["problem"], "", "", "", ""])
            continue
        rows.append(
            [
                one["server"],
                micro(one["hello_us"]),
                f"{one['of_sync']:.3f}" if one["of_sync"] else "",
                f"{one['times']:.2f}",
                *(f"{one[key] / 1000:.2f}" for key in ("fast_p50_us", "fast_p99_us")),
            ]
        )
    return table(rows)


def boots(figures: kept.Run) -> str:
    """Boot and memory."""
    rows = [["server", "boot ms", "least", "worker MB", "of it unique"]]
    for one in figures.get("boot", ()):
        times = [f"{one[key] * 1000:.0f}" for key in ("boot_seconds", "boot_seconds_least")]
        sizes = [megabytes(one[key]) for key in ("worker_resident", "worker_unique")]
        rows.append([one["server"], *times, *sizes])
    return table(rows)


def memories(figures: kept.Run) -> str:
    """Memory of two workers of a weighty application."""
    rows = [["server", "worker MB", "of it unique", "unique of all processes"]]
    for one in figures.get("memory", ()):
        sizes = (megabytes(one[key]) for key in ("worker_resident", "worker_unique", "all_unique"))
        rows.append([one["server"], *sizes])
    return table(rows)


TABLES: dict[str, Callable[[kept.Run], str]] = {
    "run": run_line,
    "targets": targets,
    "overview": overview,
    "best": best,
    "log": log,
    "big": big,
    "thread": thread,
    "crowds": crowds,
    "scaling": scaling,
    "threads": threads,
    "boots": boots,
    "memories": memories,
}


def filled(page: str, figures: kept.Run) -> str:
    """The page with its tables made anew; KeyError for a marker that names none."""
    return _BLOCK.sub(lambda match: f"{match[1]}{TABLES[match[2]](figures)}\n{match[3]}", page)
