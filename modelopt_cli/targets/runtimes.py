"""The lowest onnxruntime that reads a model, by its opset and IR version.

From the version matrix of https://onnxruntime.ai/docs/reference/compatibility.html up to 1.18; for newer formats the
version that loaded the model here is the one that is known to.
"""

from __future__ import annotations

_BY_OPSET = {
    **dict.fromkeys(range(1, 9), (0, 2)),
    **{9: (0, 3), 10: (0, 4), 11: (1, 0), 12: (1, 3), 13: (1, 6), 14: (1, 8), 15: (1, 9), 16: (1, 11), 17: (1, 12)},
    **{18: (1, 14), 19: (1, 15), 20: (1, 17), 21: (1, 18)},
}
_BY_IR = {
    **dict.fromkeys(range(1, 4), (0, 2)),
    4: (0, 4),
    5: (0, 4),
    6: (1, 0),
    7: (1, 3),
    8: (1, 11),
    9: (1, 15),
    10: (1, 18),
}


def lowest_onnxruntime(opset: int, ir_version: int, loaded_by: str) -> str:
    """``1.12``: no older version reads this opset and IR version.

    Args:
        opset: Of the default domain.
        ir_version: Of the file.
        loaded_by: Version of the runtime that loaded it, the answer where the table ends.
    """
    known = _BY_OPSET.get(max(opset, 1)), _BY_IR.get(max(ir_version, 1))
    if known[0] is None or known[1] is None:
        return loaded_by
    major, minor = max(known[0], known[1])
    return f"{major}.{minor}"
