"""The documents say what the kept figures say, and a figure is what was measured."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from perf.compare import beside, boot, figures, page, plot, publish, scale, threads


def run(total: float, requests: int = 1000) -> dict[str, Any]:
    return {
        "requests": requests,
        "seconds": 2.0,
        "user_us": total / 4,
        "system_us": total * 3 / 4,
        "total_us": total,
        "p50_us": 100,
        "p99_us": 200,
        "foreign": 0.1,
    }


def server(*totals: float, notes: tuple[str, ...] = (), problem: str = "") -> dict[str, Any]:
    return {
        "version": "1.0",
        "problem": problem,
        "notes": list(notes),
        "of_reference": 1.1,
        "start_bytes": 1 << 20,
        "peak_bytes": 3 << 20,
        "runs": [run(total) for total in totals],
    }


def document(**servers: dict[str, Any]) -> dict[str, Any]:
    machine = {"system": "Linux", "cpu": "a CPU", "cpus": 2, "python": "3.11", "revision": "abc"}
    work = {"title": "keep-alive, small head", "targets": [], "servers": servers}
    return {
        "machine": machine,
        "taken": "2026-11-23",
        "minutes": 40,
        "rounds": 5,
        "seconds": 2,
        "connections": 64,
        "works": {"small": work},
    }


def test_the_median_of_the_rounds_is_kept_and_their_range() -> None:
    kept = figures.condense(document(cyhorn=server(9, 5, 6)))["works"]["small"]["servers"]["cyhorn"]
    assert (kept["total_us"], kept["least_us"], kept["most_us"]) == (6, 5, 9)


def test_a_server_without_runs_keeps_its_reason() -> None:
    kept = figures.condense(document(bjoern=server(problem="wrong: status 500")))
    assert kept["works"]["small"]["servers"]["bjoern"]["problem"] == "wrong: status 500"


def test_a_peer_that_does_less_is_not_the_best_and_stands_in_brackets() -> None:
    kept = figures.condense(
        document(
            reference=server(5),
            cyhorn=server(6),
            fastwsgi=server(3, notes=("buffers the stream",)),
            bjoern=server(8),
        )
    )
    assert [label for label, _ in page.peers(kept["works"]["small"])] == ["bjoern"]
    assert "(3.00)" in page.overview(kept)


def test_a_page_keeps_what_is_written_by_hand() -> None:
    kept = figures.condense(document(cyhorn=server(6)))
    text = "# Speed\n<!-- figures: overview -->\nold\n<!-- end -->\nby hand\n"
    made = page.filled(text, kept)
    assert made.startswith("# Speed\n") and made.endswith("by hand\n")
    assert "old" not in made and "6.00" in made
    assert page.filled(made, kept) == made


def test_a_marker_that_names_no_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        page.filled("<!-- figures: speed -->\n<!-- end -->\n", figures.condense(document()))


def bars(picture: str) -> list[float]:
    root = ElementTree.fromstring(picture)
    return [float(rect.attrib["width"]) for rect in root.iter("{http://www.w3.org/2000/svg}rect")]


def test_bars_are_as_long_as_their_figures_say() -> None:
    picture = plot.draw(figures.condense(document(reference=server(5), cyhorn=server(6), bjoern=server(9))))
    ours, theirs = bars(picture)
    assert theirs / ours == pytest.approx(9 / 6, rel=0.01)


def test_a_bar_that_is_cut_shows_it_and_keeps_its_number() -> None:
    kept = figures.condense(document(reference=server(5), cyhorn=server(6), gunicorn=server(115)))
    picture = plot.draw(kept)
    assert picture.count('fill-opacity=".85"') == 2
    assert ">115<" in picture
    assert ">115<" in picture and plot.draw(kept) == picture


def test_page_and_picture_are_those_of_the_committed_figures() -> None:
    assert publish.stale() == []


# -- the judgement of what is not a load on one worker --------------------------------------------


def met(judged: list[dict[str, Any]]) -> list[bool]:
    json.dumps(judged)
    return [item["met"] for item in judged]


@pytest.mark.parametrize(
    ("held", "wakes", "expected"), [(1.5, 1.0, [True, True]), (1.6, 4.0, [False, False])]
)
def test_workers_share_fairly_and_wake_alone(held: float, wakes: float, expected: list[bool]) -> None:
    rows = [
        {"server": "cyhorn", "workers": 4, "share": held, "wakes": wakes},
        {"server": "gunicorn", "workers": 4},
    ]
    assert met(scale.judge(rows)) == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"of_sync": 1.02, "times": 7.8, "fast_p99_us": 900}, [True, True, True]),
        ({"of_sync": 1.05, "times": 7.4, "fast_p99_us": 11_000}, [False, False, False]),
    ],
)
def test_threads_cost_nothing_and_do_not_wait_for_one_another(seen: dict[str, float], expected: list[bool]) -> None:
    rows = [{"server": "cyhorn", **seen}, {"server": "granian", "of_sync": None, **seen}, {"server": "cyhorn-pure", "problem": ""}]
    assert met(threads.judge(rows)) == expected


def test_an_idle_connection_may_weigh_a_kilobyte_and_slow_nobody_down() -> None:
    row = {"server": "cyhorn", "unique_each": 1000, "cpu_us_before": 6, "cpu_us_with": 6}
    quiet = {"p99_us_before": 100, "p99_us_with": 120}
    assert met(beside.judge(beside.IDLE, [row | quiet])) == [True, True, True]
    assert met(beside.judge(beside.IDLE, [row | quiet | {"unique_each": 1100, "cpu_us_with": 8}])) == [
        False,
        False,
        True,
    ]


def test_a_start_is_held_to_gunicorns_each_way() -> None:
    def one(name: str, boot_seconds: float) -> dict[str, Any]:
        return {"server": name, "boot_seconds": boot_seconds, "worker_resident": 10, "worker_unique": 5}

    rows = [
        one("cyhorn", 0.07),
        one("gunicorn", 0.1),
        one("cyhorn --preload", 0.1),
        one("gunicorn --preload", 0.08),
    ]
    assert met(boot.judge(rows)) == [True, True, True, False, True, True]
