"""Coverage-guided fuzzing of the parser, the decoder and the loop, by atheris (libFuzzer).

    python -m fuzz.guided TARGET [--guide compiled|python] [--seconds N] [libFuzzer flags or files]
    python -m fuzz.guided TARGET --minimise

from the root of a checkout. TARGET is ``head``, ``body`` or ``loop``. Whichever side guides, both sides get
every input, and what differs between them is a finding as a crash, a hang or a sanitizer's
report is: the run ends, and the input is kept in ``build/guided/found``.

``--guide compiled`` needs clang: the extension modules are built in a copy of the tree with
libFuzzer's counters, AddressSanitizer and UndefinedBehaviorSanitizer. ``--guide python`` counts
the branches of the Python side, and runs beside the build in the tree.

What raises coverage gathers in ``build/guided/TARGET``. ``--minimise`` leaves those of it that
together reach as much as all, on both sides, in fuzz/corpus, where the next run and the tests of
the twins start from them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

from fuzz import copies, seeds
from fuzz.targets import TARGETS, mutate, padded

WORK = copies.ROOT / "build" / "guided"
#: Set in the process that fuzzes: where the corpus stands and what is found goes.
HERE = "FUZZ_GUIDED_WORK"
#: All of clang's "undefined" but pointer-overflow, which minds that Cython adds nothing to a null pointer.
SANITIZERS = (
    "address,alignment,bool,bounds,builtin,enum,float-cast-overflow,integer-divide-by-zero,nonnull-attribute,null,"
    "return,returns-nonnull-attribute,shift,signed-integer-overflow,unreachable,vla-bound"
)
#: Seconds after which an input hangs, and MiB that the process may use.
HANGS, MEMORY = 30, 4096


class Difference(Exception):
    """What a target has to say of an input."""


def launch(target: str, guide: str, arguments: list[str]) -> int:
    """Fuzz in a process that has loaded what `guide` needs. Returns its exit status."""
    environ = {**os.environ, HERE: str(WORK), "PYTHONWARNINGS": "ignore"}
    where = copies.ROOT
    if guide == "compiled":
        where = WORK / "tree"
        clang = shutil.which("clang") or shutil.which("clang-14")
        if clang is None:
            sys.exit("there is no clang: --guide compiled needs it")
        copies.build(
            where,
            {
                "CC": clang,
                "LDSHARED": f"{clang} -shared",
                "CYHORN_SANITIZE": f"{SANITIZERS},fuzzer-no-link",
            },
        )
        import atheris

        environ |= {
            "LD_PRELOAD": str(Path(atheris.path()) / "asan_with_fuzzer.so"),
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_abort=1",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        }
    command = [sys.executable, "-m", "fuzz.guided", target, "--guide", guide, *arguments]
    return subprocess.run(command, cwd=where, env=environ).returncode


def fuzz(target: str, guide: str, arguments: list[str]) -> None:
    """Hand over to libFuzzer, which ends the process."""
    import atheris

    if guide == "python":
        with atheris.instrument_imports(include=["cyhorn"]):
            from cyhorn import _chunked_py, _environ_py, _loop_py, _parser_py, _writer_py  # noqa: F401
    chosen = TARGETS[target]

    def custom_mutator(data: bytes, max_size: int, seed: int) -> bytes:
        return mutate(
            chosen, data, Random(seed), lambda message: bytes(atheris.Mutate(message, max_size))
        )[:max_size]

    with chosen.make() as check:

        def test_one_input(data: bytes) -> None:
            words = check(padded(data))
            if words is not None:
                raise Difference(words)

        # By its first argument libFuzzer starts itself again, where it merges.
        again = f"{sys.executable} -m fuzz.guided {target} --guide {guide}"
        atheris.Setup([again, *arguments], test_one_input, custom_mutator=custom_mutator)
        atheris.Fuzz()


def fill(folder: Path, target: str) -> None:
    """Put the inputs to start from into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = seeds.read(target) or [bytes(3) + message for message in TARGETS[target].seeds]
    for number, data in enumerate(kept):
        (folder / f"seed-{number}").write_bytes(data)


def minimise(target: str) -> int:
    """Write to fuzz/corpus what of the gathered inputs is enough. Returns an exit status."""
    gathered, enough = WORK / target, WORK / f"{target}-enough"
    kept: set[bytes] = set()
    for guide in ("compiled", "python"):
        shutil.rmtree(enough, ignore_errors=True)
        enough.mkdir(parents=True)
        flags = ["-set_cover_merge=1", f"-artifact_prefix={WORK}/"]
        status = launch(target, guide, [*flags, str(enough), str(gathered)])
        if status:
            return status
        kept |= {file.read_bytes() for file in enough.iterdir()}
    seeds.write(target, kept)
    print(f"{len(kept)} inputs in fuzz/corpus/{target}.txt")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.guided", description=__doc__.split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--guide", choices=("compiled", "python"), default="compiled")
    parser.add_argument("--seconds", type=int, default=60, help="how long to run (default 60)")
    parser.add_argument("--minimise", action="store_true", help="keep what is enough in fuzz/corpus")
    options, arguments = parser.parse_known_args()
    if HERE in os.environ:
        fuzz(options.target, options.guide, arguments)
        return 0
    if options.minimise:
        return minimise(options.target)
    corpus, found = WORK / options.target, WORK / "found"
    found.mkdir(parents=True, exist_ok=True)
    fill(corpus, options.target)
    arguments = [os.path.abspath(word) if os.path.exists(word) else word for word in arguments]
    if not any(os.path.isabs(word) for word in arguments):
        arguments.append(str(corpus))
    limits = [f"-timeout={HANGS}", f"-rss_limit_mb={MEMORY}", f"-max_total_time={options.seconds}"]
    limits += [f"-max_len={TARGETS[options.target].max_size}", f"-artifact_prefix={found}/{options.target}-"]
    return launch(options.target, options.guide, [*limits, "-print_final_stats=1", *arguments])


if __name__ == "__main__":
    sys.exit(main())
