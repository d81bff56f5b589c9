"""The door of the program: signals, the imports that Ctrl-C may hit, and the Typer application."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from modelopt_cli.cli.boundary import boundary


def main() -> None:
    """Run ``modelopt`` on ``sys.argv``; never returns normally."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a name in another script must not end a report in an ASCII locale
    with boundary():
        from modelopt_cli.cli.root import app

        app(prog_name="modelopt")


def _as_interrupt(signum: int, frame: FrameType | None) -> None:
    # `timeout` and job schedulers send SIGTERM: the same way out as Ctrl-C, so that temporary files are removed.
    raise KeyboardInterrupt
