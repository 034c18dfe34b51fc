"""The kept inputs of coverage-guided fuzzing: fuzz/corpus/TARGET.txt, one a line, as in a bytes literal."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

_ESCAPES = {ord("\r"): "\\r", ord("\n"): "\\n", ord("\t"): "\\t", ord('"'): '\\"', ord("\\"): "\\\\"}

FOLDER = Path(__file__).resolve().parent / "corpus"


def read(target: str) -> list[bytes]:
    """The inputs that are kept for `target`; none where there is no file."""
    file = FOLDER / f"{target}.txt"
    if not file.exists():
        return []
    return [ast.literal_eval(f'b"{line}"') for line in file.read_text().splitlines()]


def write(target: str, inputs: Iterable[bytes]) -> None:
    """Keep `inputs`, short ones first, in an order that does not depend on how they were found."""
    FOLDER.mkdir(exist_ok=True)
    lines = [_escaped(data) for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    (FOLDER / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines))


def _escaped(data: bytes) -> str:
    return "".join(
        _ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in data
    )
