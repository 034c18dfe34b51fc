"""docs/reliability.md: what is generated of it. ``python -m reliability.document`` writes rules and tests.

A generated section stands between ``<!-- name -->`` and ``<!-- /name -->``. The section "figures" is what
``python -m reliability --write`` measured last.
"""

from __future__ import annotations

import re

from reliability.rules import GROUPS, ROOT, shown_by

PAGE = ROOT / "docs" / "reliability.md"


def with_section(text: str, name: str, content: str) -> str:
    """`text` with `content` in its section `name`. Raises ValueError without such a section."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no section {name!r}")
    return pattern.sub(lambda found: f"{found[1]}{content}{found[2]}", text)


def write_section(name: str, content: str) -> None:
    """Replace a section of the page."""
    PAGE.write_text(with_section(PAGE.read_text(), name, content))


def rules_section() -> str:
    """Each rule, and the tests that show it."""
    tests = shown_by()
    lines = []
    for title, rules in GROUPS:
        lines += [f"### {title}", ""]
        for number, rule in rules.items():
            lines.append(f"{number}. {rule}")
            files: dict[str, list[str]] = {}
            for file, name in tests.get(number, []):
                files.setdefault(file, []).append(name.removeprefix("test_").replace("_", " "))
            for file, names in files.items():
                place = file.removeprefix("tests/")
                lines.append(f"   * [{place}](../{file}): {'; '.join(names)}")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    write_section("rules", rules_section())


if __name__ == "__main__":
    main()
