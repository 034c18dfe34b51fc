"""The extension modules, and whether they are built.

``CYHORN_BUILD=require`` (the default) builds them or fails: a performance server
must not become slow silently. ``CYHORN_BUILD=pure`` leaves them out, and the
wheel is then ``py3-none-any``. Everything else stands in pyproject.toml.
"""

import os
import sys

from setuptools import Extension, setup

BUILDS = ("require", "pure")
MODULES = ("_parser", "_environ", "_writer", "_loop")

#: Wheels must run on any machine of their kind: no -march, no instruction set.
CFLAGS = ["-O3", "-fno-plt", "-fvisibility=hidden", "-Wall", "-Wno-unused-function"]


def extensions():
    """The extension modules, cythonized; none for a pure build."""
    build = os.environ.get("CYHORN_BUILD") or "require"
    if build not in BUILDS:
        sys.exit(f"CYHORN_BUILD={build!r}: use one of {', '.join(BUILDS)}")
    if build == "pure":
        return []
    from Cython.Build import cythonize
    from Cython.Compiler import Options

    Options.warning_errors = True
    modules = [
        Extension(f"cyhorn.{name}", [f"cyhorn/{name}.pyx"], extra_compile_args=CFLAGS)
        for name in MODULES
        if os.path.exists(f"cyhorn/{name}.pyx")
    ]
    return cythonize(
        modules,
        compiler_directives={"language_level": 3, "binding": True, "embedsignature": False},
    )


setup(ext_modules=extensions())
