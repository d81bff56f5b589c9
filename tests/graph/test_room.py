from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelopt_cli.errors import OutputError
from modelopt_cli.graph.io import check_room


def test_an_output_that_will_not_fit_is_refused_before_the_work(tmp_path: Path) -> None:
    check_room(tmp_path / "m.onnx", 1)
    needed = shutil.disk_usage(tmp_path).total * 2
    with pytest.raises(OutputError, match=r"the disk has [\d.]+ [MGT]B left") as refused:
        check_room(tmp_path / "m.onnx", needed)
    assert refused.value.exit_code == 4
