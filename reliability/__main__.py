"""``python -m reliability``: run the scenarios, print the table; ``--write`` puts it into docs/reliability.md."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import time

from perf.compare.servers import Unavailable
from reliability import scenarios  # noqa: F401  (makes the rows known)
from reliability.bench import SCENARIOS, NotHere, Result, Scenario, bench
from reliability.contestants import COMPILED, EVERYBODY, PURE, Contestant
from reliability.document import write_section


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m reliability", description="Reliability, as figures.")
    parser.add_argument("--short", action="store_true", help="cyhorn alone, smaller, some of the scenarios")
    parser.add_argument("--only", metavar="TEXT", help="the scenarios whose name or function holds TEXT")
    parser.add_argument("--who", metavar="A,B", help=f"of {', '.join(who.name for who in EVERYBODY)}")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    return parser.parse_args(arguments)


def measure(row: Scenario, who: Contestant, short: bool) -> Result | str:
    """The result, or why there is none."""
    try:
        with bench(who, short) as made:
            return row.run(made)
    except NotHere as reason:
        return str(reason)
    except Exception as error:
        first = str(error).partition("\n")[0]
        return Result(f"{type(error).__name__}: {first}"[:90], False)


def cell(result: Result | str | None) -> str:
    if result is None:
        return ""
    if isinstance(result, str):
        return f"not here: {result}"
    return result.figure if result.passed else f"**no:** {result.figure}"


def table(rows: list[tuple[Scenario, dict[str, Result | str]]], everybody: list[Contestant]) -> str:
    """The table in Markdown, with the machine that it is of."""
    versions = {who.version() for who in everybody} - {""}
    lines = [
        f"{time.strftime('%B %Y')}, {os.cpu_count()} CPUs, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}"
        + (f", Gunicorn {', '.join(sorted(versions))}" if versions else "")
        + ". **no:** says that what is promised does not hold; an empty cell, that nothing comparable can be asked.",
        "",
        "| what is done | what has to hold | " + " | ".join(who.name for who in everybody) + " |",
        "|---|---|" + "---|" * len(everybody),
    ]
    for row, results in rows:
        rules = ", ".join(map(str, row.rules))
        cells = " | ".join(cell(results.get(who.name)) for who in everybody)
        lines.append(f"| {row.name} | {row.promise} ({rules}) | {cells} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when cyhorn did not do what is promised."""
    options = parse(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = [who for who in EVERYBODY if not options.who or who.name in options.who.split(",")]
    if options.short:
        wanted = [who for who in wanted if who in (COMPILED, PURE)]
    everybody = []
    for who in wanted:
        try:
            who.prepare()
            everybody.append(who)
        except Unavailable as cause:
            print(f"{who.name}: {cause}", file=sys.stderr)
    rows = []
    broken = 0
    begun = time.monotonic()
    for row in SCENARIOS:
        if options.only and options.only not in row.name and options.only not in row.run.__name__:
            continue
        if options.short and not row.short:
            continue
        results: dict[str, Result | str] = {}
        for who in everybody:
            if who.ours or row.peers:
                started = time.monotonic()
                result = results[who.name] = measure(row, who, options.short)
                seconds = time.monotonic() - started
                broken += who.ours and isinstance(result, Result) and not result.passed
                print(f"{seconds:5.1f} s  {who.name:16} {row.name}: {cell(result)}", flush=True)
        rows.append((row, results))
    text = table(rows, everybody)
    if options.write:
        write_section("figures", text)
    print(f"\n{text}\n{time.monotonic() - begun:.0f} s, {broken} promises of cyhorn broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
