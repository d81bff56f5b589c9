"""Run benchmarks and write their sections into RESULTS.md: ``python -m benchmarks [startup int8 ...]``.

A benchmark is a module ``bench_<name>.py`` here with a docstring (what is measured, the goal) and ``run() -> str``
(a Markdown body). A section that is not run keeps what it said.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from modelopt_cli.targets.detect import detect_isa

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
HEAD = "# Results\n\nWritten by `make bench`, never by hand.\n"
PACKAGES = ("modelopt-cli", "onnxruntime", "onnxruntime-gpu", "onnx", "numpy")


def main() -> None:
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(names)}; default all")
    asked = parser.parse_args().names or names
    if unknown := sorted(set(asked) - set(names)):
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(names)}")
    for name in asked:
        started = time.perf_counter()
        section = "\n".join(_section(name, started))
        print(section, flush=True)
        _write(name, section)


def _section(name: str, started: float) -> Iterator[str]:
    module = importlib.import_module(f"benchmarks.bench_{name}")
    title, _, about = (module.__doc__ or name).strip().partition("\n")
    body = module.run()
    yield f"## {title.rstrip('.')}\n"
    if about.strip():
        yield f"{about.strip()}\n"
    yield f"{body.strip()}\n"
    yield f"`python -m benchmarks {name}`, {time.perf_counter() - started:.0f} s; {machine()}.\n"


def machine() -> str:
    """Versions and processors that figures depend on."""
    packages = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    processor = f"{platform.machine()} ({detect_isa()})"  # integer kernels are other ones on each of these
    return f"Python {platform.python_version()}, {packages}; {processor}, {len(os.sched_getaffinity(0))} CPUs"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _write(name: str, section: str) -> None:
    """Replace the section called ``name``, or add it at its place in the alphabet."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    found = dict(re.findall(r"<!-- begin (\w+) -->\n(.*?)<!-- end \1 -->\n", text, flags=re.DOTALL))
    found[name] = section
    parts = [f"<!-- begin {key} -->\n{found[key]}<!-- end {key} -->\n" for key in sorted(found)]
    RESULTS.write_text("\n".join([HEAD, *parts]))


if __name__ == "__main__":
    main()
