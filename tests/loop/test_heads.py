"""Each request has the fields of its own head, whatever other heads came before, beside or meanwhile."""

from __future__ import annotations

import random
from typing import Any

from tests.loop.driver import Served

SEED = 20261123


def head(chance: random.Random, target: str, common: list[str]) -> tuple[bytes, dict[str, str]]:
    """A head of many fields, some of them as in other heads, and its HTTP_* variables."""
    names = chance.sample([*(f"X-Field-{number}" for number in range(150)), "Accept", "User-Agent", "Via", "Cookie"], 60)
    fields = {name: chance.choice([*common, f"value {chance.random()}"]) for name in names}
    lines = [f"GET {target} HTTP/1.1", "Host: a.example", *(f"{name}: {value}" for name, value in fields.items())]
    expected = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in fields.items()}
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), {**expected, "HTTP_HOST": "a.example"}


def collecting(seen: dict[str, dict[str, str]]) -> Any:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        seen[environ["PATH_INFO"]] = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
        start_response("200 OK", [])
        return [b"x"]

    return application


def test_fields_never_come_from_another_line(impl):
    chance = random.Random(SEED)
    common = [f"a value that many requests have, number {number}" for number in range(4)]
    seen: dict[str, dict[str, str]] = {}
    with Served(impl, collecting(seen)) as served:
        client = served.client()
        for number in range(300):
            data, expected = head(chance, f"/{number}", common)
            client.send(data)
            client.answer()
            assert seen.pop(f"/{number}") == expected


def test_fields_of_a_head_that_came_in_pieces_are_its_own(impl):
    chance = random.Random(SEED)
    common = [f"a value that many requests have, number {number}" for number in range(4)]
    seen: dict[str, dict[str, str]] = {}
    with Served(impl, collecting(seen)) as served:
        clients = [served.client() for _ in range(8)]
        for turn in range(30):
            heads = [head(chance, f"/{turn}/{number}", common) for number in range(len(clients))]
            cuts = [sorted(chance.sample(range(1, len(data)), 3)) for data, _ in heads]
            for part in range(4):
                for client, (data, _), cut in zip(clients, heads, cuts, strict=True):
                    client.sock.send(data[[0, *cut][part] : [*cut, len(data)][part]])
                    served.turn(0)
            for number, (client, (_, expected)) in enumerate(zip(clients, heads, strict=True)):
                client.answer()
                assert seen.pop(f"/{turn}/{number}") == expected
