"""The access-log format as a list of steps, for a side that makes lines without a Python call.

`access_format` says what every atom shows; a step names what is shown and nothing more. What
steps cannot say is left to the function that `compile_format` makes.
"""

from __future__ import annotations

from typing import NamedTuple

from cyhorn.log.access_format import ALWAYS, MAYBE, MISSING, REQUEST_LINE, Atom, field_key, split_format


class Step(NamedTuple):
    """What adds one part to a line, in a form that compiled code goes through without a Python call.

    kind        argument
    text        the format's own text, shown as it stands
    variable    the key of an environ variable, "-" where there is none
    exact       likewise, but where there is none it may be there under another spelling
    others      none; the name of the atom: user, time, status, sent, seconds, milliseconds,
                microseconds, decimal, process
    """

    kind: str
    argument: str = ""


#: Atoms whose step has no argument.
STEP_KINDS = {
    "u": "user", "t": "time", "s": "status", "B": "sent", "b": "sent", "T": "seconds",
    "M": "milliseconds", "D": "microseconds", "L": "decimal", "p": "process",
}  # fmt: skip


def format_steps(text: str) -> tuple[Step, ...] | None:
    """The steps that make a line of the access-log format `text`; None where it takes more than steps.

    That is: a width, a precision, another conversion than s, or a response field.
    Raises ValueError as `split_format`.
    """
    steps: list[Step] = []
    for piece in split_format(text):
        if isinstance(piece, Atom):
            found = atom_steps(piece.name) if piece.is_plain else None
            if found is None:
                return None
            steps += found
        else:
            steps.append(Step("text", piece))
    merged: list[Step] = []
    for step in steps:
        if step.kind == "text" and merged and merged[-1].kind == "text":
            merged[-1] = Step("text", merged[-1].argument + step.argument)
        elif step != Step("text"):
            merged.append(step)
    return tuple(merged)


def atom_steps(atom: str) -> list[Step] | None:
    """The steps of one atom, None for a response field."""
    if atom == "r":
        method, target, protocol = (Step("variable", key) for key in REQUEST_LINE)
        return [method, Step("text", " "), target, Step("text", " "), protocol]
    if atom in STEP_KINDS:
        return [Step(STEP_KINDS[atom])]
    if key := ALWAYS.get(atom) or MAYBE.get(atom):
        return [Step("variable", key)]
    kind = atom[-2:].lower() if atom[:1] == "{" else ""
    if kind == "}i":
        return [Step("variable", field_key(atom[1:-2]))]
    if kind == "}e":
        return [Step("exact", atom[1:-2].upper())]
    return None if kind == "}o" else [Step("text", MISSING)]
