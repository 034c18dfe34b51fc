"""Ratios are formed within rounds, and a target is judged against peers that do the whole work."""

from __future__ import annotations

import pytest

from perf.compare import report, servers, works
from perf.compare.rounds import Row, Run


def row(name: str, *totals: float, notes: tuple[str, ...] = ()) -> Row:
    runs = [Run(1000, 1.0, total / 4, total * 3 / 4, 100, 200, 0.0) for total in totals]
    return Row(servers.BY_NAME[name], works.BY_NAME["stream"], notes=list(notes), runs=runs)


def test_the_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    # The machine is twice as slow in the second round: that is no difference between servers.
    assert report.ratio(row("cyhorn", 6, 12, 6), row("reference", 5, 10, 5)) == pytest.approx(1.2)


def test_a_peer_that_buffers_the_stream_is_not_the_best() -> None:
    rows = [row("fastwsgi", 10, notes=("buffers the stream",)), row("bjoern", 70), row("waitress", 400)]
    best = report.best_peer(rows)
    assert best is not None
    assert best.server.name == "bjoern"


@pytest.mark.parametrize(("cost", "met"), [(55, True), (57, False)])
def test_a_target_is_met_up_to_its_bound(cost: float, met: bool) -> None:
    judged = report.judge(works.BY_NAME["stream"], [row("cyhorn", cost), row("bjoern", 70)])
    assert [item["met"] for item in judged] == [met]


def test_without_a_row_of_ours_nothing_is_judged() -> None:
    assert report.judge(works.BY_NAME["stream"], [row("bjoern", 70), row("reference", 50)]) == []
