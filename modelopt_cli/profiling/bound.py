"""A session whose inputs and outputs stay on the device (IO binding): timing it leaves the copies out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelopt_cli.profiling.session import Argument, Session, runtime


class BoundSession:
    """Takes the place of a session for timing: the first run binds the inputs, later ones only compute.

    Outputs are left on the device, in buffers of the runtime's own; `run` hands out none.
    """

    def __init__(self, session: Session) -> None:
        self._session: Any = session
        self._binding: Any = None

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Compute once; the inputs are those of the first call."""
        if self._binding is None:
            self._binding = self._bind(feeds)
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return []

    def get_inputs(self) -> list[Argument]:
        """Of the session."""
        found: list[Argument] = self._session.get_inputs()
        return found

    def get_outputs(self) -> list[Argument]:
        """Of the session."""
        found: list[Argument] = self._session.get_outputs()
        return found

    def get_providers(self) -> list[str]:
        """Of the session."""
        found: list[str] = self._session.get_providers()
        return found

    def end_profiling(self) -> str:
        """Of the session."""
        return str(self._session.end_profiling())

    def _bind(self, feeds: Mapping[str, np.ndarray]) -> Any:
        ort, binding, device = runtime(), self._session.io_binding(), self._device()
        for name, array in feeds.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, device))
        for output in self._session.get_outputs():
            binding.bind_output(output.name, device)
        binding.synchronize_inputs()
        return binding

    def _device(self) -> str:
        on_gpu = self._session.get_providers()[0] in ("CUDAExecutionProvider", "TensorrtExecutionProvider")
        return "cuda" if on_gpu else "cpu"
