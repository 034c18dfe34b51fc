"""Both sides, whole and cut anyhow, make the same of the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyhorn import grammar
from fuzz import fuzz_parser
from tests.conftest import Implementation
from tests.twins import corpus
from tests.twins.harness import decode_body, every_cut, read_head

ROOT = Path(__file__).resolve().parents[2]
COMPILED, PYTHON = Implementation("compiled"), Implementation("python")
SETTINGS = settings(max_examples=300, deadline=None)


def same(read: Any, data: bytes, cuts: Any, options: Any) -> None:
    expected = read(PYTHON, data, (), options)
    for side in (COMPILED, PYTHON):
        for cut in cuts:
            assert read(side, data, cut, options) == expected, (side, cut)


@pytest.mark.parametrize("options", corpus.HEAD_OPTIONS, ids=lambda options: ",".join(options) or "defaults")
@pytest.mark.parametrize("data", corpus.HEADS)
def test_every_cut_of_a_head_gives_the_same_outcome_on_both_sides(data, options):
    same(read_head, data, every_cut(len(data)), options)


@pytest.mark.parametrize("options", corpus.BODY_OPTIONS, ids=lambda options: ",".join(options) or "defaults")
@pytest.mark.parametrize("data", corpus.BODIES)
def test_every_cut_of_a_body_gives_the_same_outcome_on_both_sides(data, options):
    same(decode_body, data, every_cut(len(data)), options)


def test_the_corpus_meets_every_code_of_the_parser():
    """A corpus that reached only some outcomes would compare little."""
    met = {
        outcome[1]
        for read, messages, switches in (
            (read_head, corpus.HEADS, corpus.HEAD_OPTIONS),
            (decode_body, corpus.BODIES, corpus.BODY_OPTIONS),
        )
        for data in messages
        for options in switches
        if (outcome := read(COMPILED, data, (), options))[0] == "error"
    }
    wanted = set(
        "BARE_LF BARE_CR EMPTY_LINES REQUEST_LINE METHOD TARGET CONNECT VERSION VERSION_SYNTAX "
        "REQUEST_LINE_LENGTH FIELD_NAME FIELD_VALUE FIELD_FOLDED FIELD_COUNT FIELD_LENGTH FIELD_REPEATED "
        "HOST_MISSING HOST CONTENT_LENGTH TRANSFER_ENCODING TRANSFER_CODING LENGTH_CONFLICT TRACE_BODY "
        "EXPECT CHUNK_SIZE CHUNK_EXTENSION CHUNK_DATA TRAILER TRAILER_NAME BODY_LENGTH".split()
    )
    assert wanted <= met


# -- generated messages: the grammar, with something odd in any place --------------------------------

odd = st.sampled_from(
    [b"", b" ", b"\t", b"\r", b"\n", b"\0", b"\x7f", b"\x80", b":", b",", b";", b'"', b"%", b"\r\n", b"\r\n "]
)


def perhaps(usual: Any, unusual: Any = odd) -> Any:
    """Mostly `usual`, sometimes with `unusual` before, after or in its place."""
    kinds = st.tuples(st.integers(0, 11), usual, unusual)
    return kinds.map(
        lambda drawn: {0: drawn[2], 1: drawn[1] + drawn[2], 2: drawn[2] + drawn[1]}.get(drawn[0], drawn[1])
    )


def joined(*parts: Any) -> Any:
    return st.tuples(*parts).map(b"".join)


tokens = st.text(sorted(map(chr, grammar.TCHAR)), min_size=1, max_size=24).map(str.encode)
names = st.one_of(
    st.sampled_from([*grammar.KNOWN_FIELDS, b"content_length", b"transfer_encoding", b"x", b"set-cookie"]),
    tokens,
).flatmap(lambda name: st.sampled_from([name, name.title(), name.upper()]))
hosts = st.one_of(
    st.sampled_from(
        [b"a", b"a.example:80", b"", b"[::1]", b"[v1.x]:1", b"a:65536", b"u@a", b"%41", b"1.2.3.4:"]
    ),
    st.lists(st.sampled_from([b"1", b"ab", b":", b"::", b"1.2.3.4", b"g", b"ffff"]), max_size=10).map(
        lambda parts: b"[" + b"".join(parts) + b"]"
    ),
    st.ip_addresses(v=6).map(lambda address: b"[%s]" % str(address).encode()),
)
values = st.one_of(
    st.sampled_from(
        [
            b"chunked",
            b"gzip, chunked",
            b"identity",
            b"close",
            b"keep-alive, x",
            b"100-continue",
            b"5",
            b"0",
            b"9" * 19,
            b"a b",
            b"",
        ]
    ),
    hosts,
    st.binary(max_size=20),
)
ends = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\r\n "])
targets = st.one_of(
    st.sampled_from([b"/", b"*", b"/a?b", b"/%20//?", b"a:1"]),
    joined(
        st.sampled_from([b"http://", b"HTTPS://", b"ftp://"]),
        hosts,
        st.sampled_from([b"", b"/", b"?q", b"/p?q"]),
    ),
    st.binary(max_size=12).map(lambda raw: b"/" + raw),
)
methods = st.one_of(
    st.sampled_from([b"GET", b"POST", b"TRACE", b"OPTIONS", b"CONNECT", b"get", b"X"]), tokens
)
versions = st.sampled_from(
    [b"HTTP/1.1"] * 4 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1"]
)
fields = joined(
    perhaps(names), st.sampled_from([b": "] * 4 + [b":", b" : ", b"\t:", b""]), perhaps(values), ends
)
framing = joined(
    st.sampled_from([b"Host", b"Transfer-Encoding", b"Content-Length", b"Expect", b"Connection"]),
    st.just(b": "),
    values,
    ends,
)
heads = joined(
    st.sampled_from([b""] * 6 + [b"\r\n", b"\n", b"\r\n\r\n"]),
    perhaps(methods), st.just(b" "), perhaps(targets), st.just(b" "), perhaps(versions), ends,
    st.sampled_from([b"Host: a\r\n"] * 3 + [b""]),
    st.lists(st.one_of(fields, framing), max_size=6).map(b"".join),
    ends,
)  # fmt: skip
head_options = st.fixed_dictionaries(
    {},
    optional={
        "limit_request_line": st.integers(0, 60),
        "limit_request_fields": st.integers(0, 6),
        "limit_request_field_size": st.integers(0, 40),
        "permit_obsolete_folding": st.booleans(),
        "strip_header_spaces": st.booleans(),
        "permit_unconventional_http_method": st.booleans(),
        "permit_unconventional_http_version": st.booleans(),
        "casefold_http_method": st.booleans(),
    },
)

sizes = st.one_of(
    st.integers(0, 30).map(b"%x".__mod__), st.sampled_from([b"0", b"00A", b"7" + b"f" * 15, b"8" + b"0" * 15])
)
extensions = st.lists(
    st.sampled_from(
        [b";", b"=", b" ", b"\t", b"a", b"bc", b'"', b'"d"', b"\\", b"\x80", b'"e\\"f"', b"\0", b";g=h"]
    ),
    max_size=6,
).map(b"".join)
chunks = st.tuples(
    sizes, st.one_of(st.just(b""), st.just(b""), extensions), ends, st.binary(max_size=30), ends
).map(lambda parts: b"".join(parts))
whole_chunks = st.binary(min_size=1, max_size=40).map(lambda data: b"%x\r\n%s\r\n" % (len(data), data))
bodies = joined(
    st.lists(st.one_of(whole_chunks, whole_chunks, chunks), max_size=5).map(b"".join),
    perhaps(st.just(b"0")), extensions | st.just(b""), ends, st.lists(fields, max_size=3).map(b"".join), ends,
    st.binary(max_size=4),
)  # fmt: skip
body_options = st.fixed_dictionaries(
    {},
    optional={
        "limit_request_body": st.integers(0, 60),
        "limit_request_fields": st.integers(0, 3),
        "limit_request_field_size": st.integers(0, 40),
        "permit_obsolete_folding": st.booleans(),
        "strip_header_spaces": st.booleans(),
    },
)
cut_seeds = st.integers(0, 2**32)


def some_cuts(seed: int, size: int) -> list[Any]:
    random = Random(seed)
    return [(), range(size), *([random.randint(0, size)] for _ in range(6))]


@SETTINGS
@given(data=heads, options=head_options, seed=cut_seeds)
def test_generated_heads_give_the_same_outcome_on_both_sides(data, options, seed):
    same(read_head, data, some_cuts(seed, len(data)), options)


@SETTINGS
@given(data=bodies, options=body_options, seed=cut_seeds)
def test_generated_bodies_give_the_same_outcome_on_both_sides(data, options, seed):
    same(decode_body, data, some_cuts(seed, len(data)), options)


@SETTINGS
@given(host=hosts)
def test_generated_hosts_are_judged_alike(host):
    same(read_head, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", [()], {})


@pytest.mark.parametrize("seed", range(10))
def test_mutated_messages_give_the_same_outcome_on_both_sides(seed):
    """A little of what `python -m fuzz.fuzz_parser` does for as long as it is told."""
    random = Random(seed)
    for _ in range(200):
        assert fuzz_parser.check(random) is None


def test_the_compiled_side_reads_no_byte_beyond_what_it_was_given():
    """In a process of its own, which a read of the guard page would kill."""
    command = [sys.executable, "-m", "fuzz.fuzz_parser", "--seconds", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
