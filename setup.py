"""The extension modules, and whether they are built. Everything else stands in pyproject.toml.

Environment of a build:

``CYHORN_BUILD``
    ``require`` builds the extension modules or fails: a performance server must not
    become slow silently. ``pure`` leaves them out, and the wheel is then
    ``py3-none-any``. Not given, it is ``require`` on CPython for Linux and ``pure``
    elsewhere, where the loop's epoll or the C API is missing: the twins are used all
    or none, so that what could be built beside a missing loop would never run.
``CYHORN_DEBUG=1``
    no optimisation, debug symbols, and the assertions behind ``CYHORN_DEBUG``.
``CYHORN_SANITIZE``
    a list for ``-fsanitize``; ``1`` stands for ``address,undefined``. Such a build loads only
    into an interpreter that has the run-time libraries already: ``make sanitize`` makes one in a
    copy of the tree and runs the suites over it.

An in-place build leaves a record in ``build/``: the variant and, per module, a digest
of what it was made of. The test run compares the digests with the sources
(tests/conftest.py imports this file for that) and stops when the build is stale.
"""

import hashlib
import json
import os
import platform
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILDS = ("require", "pure")
MODULES = (
    "_parser",
    "_chunked",
    "_environ",
    "_writer",
    "_access",
    "_pulse",
    "_connection",
    "_cycle",
    "_loop",
    "_crew",
    "_orphan",
)

#: What CYHORN_SANITIZE=1 means.
SANITIZERS = "address,undefined"

#: Wheels must run on any machine of their kind: no -march, no instruction set.
CFLAGS = ["-fwrapv", "-fno-plt", "-fvisibility=hidden", "-Wall", "-Wno-unused-function"]


def wanted():
    """``require`` or ``pure``; ends the build on any other value of CYHORN_BUILD."""
    can = sys.platform == "linux" and platform.python_implementation() == "CPython"
    build = os.environ.get("CYHORN_BUILD") or ("require" if can else "pure")
    if build not in BUILDS:
        sys.exit(f"CYHORN_BUILD={build!r}: use one of {', '.join(BUILDS)}")
    if build == "require" and not can:
        sys.exit("CYHORN_BUILD=require: the compiled side needs CPython on Linux")
    return build


def sanitizers():
    """The sanitizers to build with, as ``-fsanitize`` wants them; empty for none."""
    given = os.environ.get("CYHORN_SANITIZE", "0")
    return {"0": "", "1": SANITIZERS}.get(given, given)


def variant():
    """What kind of build this is, in one word for the record and the test header."""
    words = ["debug"] if os.environ.get("CYHORN_DEBUG", "0") != "0" else []
    if sanitizers():
        words.append("sanitize=" + sanitizers())
    return "+".join(words) or "release"


def sources():
    """The modules whose source stands on disk."""
    return [name for name in MODULES if (ROOT / "cyhorn" / f"{name}.pyx").exists()]


def digest(name):
    """A digest of all that module `name` is compiled from; every .pxd and .h counts."""
    package = ROOT / "cyhorn"
    files = [package / f"{name}.pyx", *sorted(package.glob("*.pxd")), *sorted(package.glob("*.h"))]
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def record_path():
    """Where an in-place build for this interpreter notes what it was made of."""
    return ROOT / "build" / f"inplace{sysconfig.get_config_var('EXT_SUFFIX')}.json"


def read_record():
    """The record of the last in-place build, empty when there is none."""
    try:
        return json.loads(record_path().read_text())
    except (OSError, ValueError):
        return {"variant": None, "modules": {}}


def flags():
    """Compiler and linker flags of the variant."""
    sanitize = sanitizers()
    compile_args, link_args, macros = list(CFLAGS), [], []
    if variant() == "release":
        compile_args.append("-O3")
        # A CFLAGS of the environment takes the place of the interpreter's own, and its NDEBUG with it.
        macros += [("CYTHON_WITHOUT_ASSERTIONS", "1"), ("NDEBUG", "1")]
    else:
        compile_args += ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer"]
        macros.append(("CYHORN_DEBUG", "1"))
    if sanitize:
        # The interpreter's flags come first; its -fwrapv would make every overflow a defined one.
        compile_args += [f"-fsanitize={sanitize}", "-fno-wrapv"]
        link_args.append(f"-fsanitize={sanitize}")
    return {"extra_compile_args": compile_args, "extra_link_args": link_args, "define_macros": macros}


class BuildExt(build_ext):
    """Compiles the modules side by side, and notes what an in-place build was made of."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        self.force = self.force or read_record()["variant"] != variant()
        made = {name: digest(name) for name in sources()}
        try:
            super().run()
        except Exception:
            print(
                "cyhorn: the extension modules cannot be built. CYHORN_BUILD=pure leaves them out: "
                "everything works as well, only slower",
                file=sys.stderr,
            )
            raise
        if self.inplace and self.extensions:
            record_path().parent.mkdir(exist_ok=True)
            record_path().write_text(json.dumps({"variant": variant(), "modules": made}, indent=1))


def extensions():
    """The extension modules, cythonized; none for a pure build."""
    if wanted() == "pure":
        return []
    from Cython.Build import cythonize
    from Cython.Compiler import Options

    Options.warning_errors = True
    options = flags()
    headers = [str(file.relative_to(ROOT)) for file in (ROOT / "cyhorn").glob("*.h")]
    # File times alone do not tell: a checkout or a copy may bring an older source.
    made = read_record()["modules"]
    modules = {True: [], False: []}
    for name in sources():
        extension = Extension(f"cyhorn.{name}", [f"cyhorn/{name}.pyx"], depends=headers, **options)
        modules[made.get(name) != digest(name)].append(extension)
    directives = {"language_level": 3, "binding": True, "embedsignature": False}
    return [
        extension
        for stale, some in modules.items()
        for extension in cythonize(some, force=stale, compiler_directives=directives)
    ]


if __name__ == "__main__":
    os.chdir(ROOT)
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
