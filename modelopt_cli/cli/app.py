"""The door of the program: signals, the imports that Ctrl-C may hit, and the Typer application."""

from __future__ import annotations

import os
import signal
import sys

from modelopt_cli.cli.boundary import boundary, interrupt
from modelopt_cli.delay import delay_imports


def main() -> None:
    """Run ``modelopt`` on ``sys.argv``; never returns normally."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores Ctrl-C
        signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)  # of `timeout` and of schedulers: the same way out, with the same clean-up
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a name in another script must not end a report in an ASCII locale
    # numpy's BLAS starts a thread for every core it sees, which spin when the cores are busy or a container's quota is
    # lower: the Cholesky factors of recipe int8 took 13 times the CPU time, and its buffers 150 MB of memory.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    delay_imports()
    with boundary():
        from modelopt_cli.cli.root import app

        app(prog_name="modelopt")
