"""Process titles, and that they are optional."""

from __future__ import annotations

import subprocess
import sys

import pytest


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
