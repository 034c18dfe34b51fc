"""What coverage-guided fuzzing has kept: every way through parser, decoder and loop that it found."""

from __future__ import annotations

from random import Random

import pytest

from fuzz import seeds
from fuzz.targets import PREAMBLE, TARGETS, mutate, padded


@pytest.mark.parametrize("target", TARGETS)
def test_both_sides_do_the_same_with_every_kept_input(target: str) -> None:
    kept = seeds.read(target)
    assert kept
    with TARGETS[target].make() as check:
        for data in kept:
            assert check(padded(data)) is None, data


@pytest.mark.parametrize("target", TARGETS)
def test_a_variation_is_within_the_target_and_mostly_another_input(target: str) -> None:
    chosen, random = TARGETS[target], Random(1)
    data = bytes(PREAMBLE) + chosen.seeds[0]
    varied = [mutate(chosen, data, random, lambda message: message[::-1]) for _ in range(200)]
    assert all(len(variation) >= PREAMBLE for variation in varied)
    assert len(set(varied)) > 130


def test_inputs_are_written_as_they_are_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(seeds, "FOLDER", tmp_path)
    inputs = [bytes(range(256)), b"", b"'\"\\x00", b"\\", b'"', b" "]
    seeds.write("head", [*inputs, b""])
    assert sorted(seeds.read("head")) == sorted(inputs)
    assert (tmp_path / "head.txt").read_bytes().isascii()
