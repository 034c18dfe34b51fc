"""Python interaction in the hot functions of the compiled modules, held to a budget.

    python -m perf.annotate [--update] [--out DIRECTORY] [--function NAME]

Cython's annotation marks what each line of a module becomes. Counted are the lines of a
function that call into the interpreter: its C API, or Cython's helpers around it; reference
counts are not. perf/annotate-budget.txt names the hot functions, one a line, with the
number of such lines that each may have. One more fails, and so does a name that is not
there; one fewer is said, so that the budget can follow with --update. Another Cython than
the one that the budget names makes other code of the same line: with it the commit that last
changed the budget is counted, too, and is what counts. The annotated HTML stays in build/annotate.
"""

from __future__ import annotations

import argparse
import html
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perf import trees
from perf.trees import ROOT

BUDGET = ROOT / "perf" / "annotate-budget.txt"
OUT = ROOT / "build" / "annotate"

_LINE = re.compile(r'<pre class="cython line score-\d+"[^>]*>\+?.*?<span class="">0*(\d+)</span>', re.DOTALL)
_CALL = re.compile(r"<span class='(?:py_c_api|pyx_c_api)'>(\w+)")
_OPENING = re.compile(r"(\s*)(?:cdef|cpdef|def|async def)\b")
_CLASS = re.compile(r"(\s*)(?:cdef\s+)?class\s+(\w+)")
_NAME = re.compile(r"(\w+)\s*\(")


@dataclass(frozen=True)
class Function:
    """A function of a .pyx: its lines, the first being that of its def."""

    name: str  # "module.Class.function"
    first: int
    last: int


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _after_parameters(signature: str) -> str:
    """What follows the parameters' closing bracket."""
    depth = 0
    for place, character in enumerate(signature):
        depth += (character == "(") - (character == ")")
        if character == ")" and not depth:
            return signature[place + 1 :]
    return ""


def functions_of(source: Path) -> Iterator[Function]:
    """The functions of a Cython source, found by their indentation."""
    lines = source.read_text().splitlines()
    owner, owner_indent = "", -1
    for number, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if owner and _indent(line) <= owner_indent:
            owner, owner_indent = "", -1
        if match := _CLASS.match(line):
            owner, owner_indent = match[2], _indent(line)
            continue
        if not _OPENING.match(line) or "(" not in line:
            continue
        # The signature may go over several lines; a declaration has no colon behind it.
        end = number
        signature = line.partition("#")[0]
        while signature.count("(") > signature.count(")"):
            end += 1
            signature += lines[end].partition("#")[0]
        if ":" not in _after_parameters(signature):
            continue
        last = end
        for later in range(end + 1, len(lines)):
            text = lines[later]
            if text.strip() and not text.lstrip().startswith("#"):
                if _indent(text) <= _indent(line):
                    break
                last = later
        name = _NAME.search(signature)
        assert name is not None
        parts = [source.stem, owner, name[1]] if owner else [source.stem, name[1]]
        yield Function(".".join(parts), number + 1, last + 1)


def interacting(page: Path) -> dict[int, list[str]]:
    """Line of the source → what it calls of the interpreter, from an annotated page."""
    found: dict[int, list[str]] = {}
    marks = list(_LINE.finditer(text := page.read_text()))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        code = text[mark.end() : following.start() if following else len(text)]
        if calls := _CALL.findall(code):
            found[int(mark[1])] = [html.unescape(call) for call in calls]
    return found


def annotate(out: Path, tree: Path = ROOT) -> dict[str, dict[int, list[str]]]:
    """Write the annotated pages of the sources in `tree`; function → its interacting lines."""
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[int, list[str]]] = {}
    for source in sorted((tree / "cyhorn").glob("*.pyx")):
        with tempfile.TemporaryDirectory() as directory:
            c_file = Path(directory) / f"{source.stem}.c"
            command = [sys.executable, "-m", "cython", "-3", "--annotate", "-I", str(tree)]
            done = subprocess.run(
                [*command, "-o", str(c_file), str(source)], cwd=tree, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(done.stderr.strip())
            page = out / f"{source.stem}.html"
            page.write_text(c_file.with_suffix(".html").read_text())
        lines = interacting(page)
        for function in functions_of(source):
            found[function.name] = {
                number: calls for number, calls in lines.items() if function.first <= number <= function.last
            }
    return found


def read_budget() -> dict[str, int]:
    """Function → lines allowed."""
    budget = {}
    for line in BUDGET.read_text().splitlines():
        if words := line.partition("#")[0].split():
            budget[words[0]] = int(words[1])
    return budget


_COUNTED_WITH = re.compile(r"^# Counted with Cython (\S+)\.$", re.MULTILINE)


def counted_with() -> str:
    """The Cython that the budget was counted with."""
    match = _COUNTED_WITH.search(BUDGET.read_text())
    return match[1] if match else ""


def accepted(budget: dict[str, int]) -> dict[str, int]:
    """The budget as this Cython counts it: that of the commit which last changed the file."""
    revision = trees.last_change(BUDGET)
    print(f"the budget is of Cython {counted_with()}: counting {revision[:10]}, too", flush=True)
    with tempfile.TemporaryDirectory(prefix="cyhorn-base-") as directory:
        tree = Path(directory)
        trees.unpack(revision, tree)
        found = annotate(tree / "build" / "annotate", tree)
    return {name: len(found.get(name, ())) for name in budget}


def write_budget(found: dict[str, dict[int, list[str]]]) -> None:
    """Set the numbers of the functions that the file names; its comments stay."""
    lines = []
    for line in BUDGET.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words and words[0] in found:
            line = f"{words[0]:<48} {len(found[words[0]])}"
        lines.append(_COUNTED_WITH.sub(f"# Counted with Cython {cython()}.", line))
    BUDGET.write_text("\n".join(lines) + "\n")


def cython() -> str:
    return importlib.metadata.version("cython")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when a function is over its budget or is not there."""
    parser = argparse.ArgumentParser(prog="python -m perf.annotate", description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="set the budget to what is there now")
    parser.add_argument("--base", action="store_true", help="count the accepted commit here in any case")
    parser.add_argument("--out", type=Path, default=OUT, help="where the HTML goes (build/annotate)")
    parser.add_argument("--function", metavar="NAME", help="show the interacting lines of this function")
    options = parser.parse_args(arguments)
    found = annotate(options.out)
    if options.function:
        if options.function not in found:
            sys.exit(f"no function {options.function}")
        for number, calls in found[options.function].items():
            print(f"{number:>6}  {', '.join(calls)}")
        return 0
    if options.update:
        write_budget(found)
    failed = False
    print(f"lines with Python interaction (Cython {cython()})")
    budget = read_budget()
    if options.base or counted_with() != cython():
        budget = accepted(budget)
    for name, allowed in budget.items():
        if name not in found:
            verdict, count = "NOT FOUND", "-"
        else:
            count = str(len(found[name]))
            over = len(found[name]) - allowed
            verdict = "OVER BUDGET" if over > 0 else "below: commit it with --update" if over < 0 else ""
        failed |= verdict.isupper()
        print(f"  {name:<48} {count:>4} of {allowed:>3}  {verdict}".rstrip())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
