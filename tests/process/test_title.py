"""Process titles, and that they are optional."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cyhorn.process import title


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="titles are read from /proc here, and are off on macOS")
def test_a_process_is_shown_by_its_title():
    shown = run(
        "import os\nfrom cyhorn.process.title import set_title\n"
        "os.environ.pop('PATH', None)\n"
        "set_title('master [app:app]')\nprint(open('/proc/self/cmdline').read().rstrip('\\0'))"
    )
    assert shown == "cyhorn: master [app:app]"


def test_without_setproctitle_nothing_happens():
    code = (
        "import sys\nsys.modules['setproctitle'] = None\n"
        "from cyhorn.process.title import set_title\nset_title('worker [app:app]')\nprint('fine')"
    )
    assert run(code) == "fine"


def test_on_macos_titles_are_left_alone():
    code = (
        "import sys\nsys.platform = 'darwin'\n"
        "from cyhorn.process import title\ntitle.set_title('x')\n"
        "print('setproctitle' in sys.modules)"
    )
    assert run(code) == "False"


@pytest.mark.parametrize(
    ("arguments", "is_one"),
    [
        (["cyhorn: master [app:app]"], True),
        (["cyhorn: worker [shop] one"], True),
        (["/usr/bin/python3", "/srv/venv/bin/cyhorn", "app:app"], True),
        (["/srv/venv/bin/python3.12", "-m", "cyhorn", "app:app"], True),
        (["/opt/cyhorn", "app:app"], True),
        (["/usr/bin/python3", "-m", "gunicorn", "cyhorn"], False),
        (["tail", "cyhorn"], False),
        (["nginx: master process"], False),
        ([], False),
    ],
)
def test_a_server_is_known_by_its_title_or_by_its_command_line(monkeypatch, arguments, is_one):
    monkeypatch.setattr(title, "_arguments", lambda pid: arguments)
    assert title.is_cyhorn(1) is is_one


def test_no_process_is_no_server():
    assert title.process_title(2**22 + 1) == "" and not title.is_cyhorn(2**22 + 1)
