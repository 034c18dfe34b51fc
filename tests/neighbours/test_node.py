"""Node's fetch and http.Agent (the checks are in node_client.mjs)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.neighbours.application import content
from tests.neighbours.harness import Backend, sha256

SIZE = 3_000_000


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_node_keeps_its_connections_streams_both_ways_and_leaves(tcp: Backend, tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(content(SIZE))
    task = {
        "url": tcp.url,
        "size": SIZE,
        "sha256": sha256(content(SIZE)),
        "file": str(tmp_path / "content"),
    }
    script = Path(__file__).with_name("node_client.mjs")
    before = tcp.state()
    done = subprocess.run(
        ["node", str(script), json.dumps(task)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    told = dict(json.loads(line) for line in done.stdout.splitlines())
    assert told == {"fetch": True, "abort": True, "pool": 4, "lone": 1}
    after = tcp.state()
    assert after["begun"] - before["begun"] == after["closed"] - before["closed"] == 7
