from __future__ import annotations

from dataclasses import replace

from modelopt_cli.report.markdown import to_markdown
from modelopt_cli.report.model import Notice, RunReport, SkipReport

EXPECTED = r"""**2.1x faster, 3.4x smaller, top-1 76.0 -\> 75.9 %: within budget**

`net.onnx` to `net.int8.onnx` by recipe `int8`

> opset raised from 11 to 13 (needed for per-channel weights)

|  | original | result | change |
|:--|--:|--:|:--|
| file | 18.7 MB | 5.49 MB | 3.4x smaller |
| parameters | 4.65 M | 4.65 M | same |
| non-zero | 100 % | 100 % | same |
| nodes | 115 | 310 | +170 % |
| latency (cpu) | 10.0 ms | 4.80 ms | 2.1x faster (2.04-2.13x) |
| top-1 | 76.0 % | 75.9 % | -0.1 points on 1000 samples |
| top-1 agreement |  | 98.5 % | on 1000 samples |
| SQNR |  | 31.3 dB | on 1000 samples |
| MACs in int8 kernels |  | 97.1 % | 3 Q/DQ nodes left over |

| required | limit | measured |  |  |
|:--|--:|--:|:--|:--|
| max\_accuracy\_drop | 1.00 points | 0.10 points | met | top1 on 1000 samples |

<details><summary>2 steps in 72.4 s</summary>

| step |  | nodes | time | skipped |
|:--|--:|--:|--:|:--|
| fuse | 61 changed | 115 -\> 98 | 0.21 s | 2 skipped: output is shared |
| quantize-static | 49 changed | 98 -\> 310 | 12.3 s |  |

</details>
"""


def test_a_comment_on_a_pull_request(report: RunReport) -> None:
    assert to_markdown(report) == EXPECTED


def test_a_comment_is_never_too_long_for_github(report: RunReport) -> None:
    skipped = tuple(SkipReport(f"reason {index} " + "x" * 2000, 1, ()) for index in range(5000))
    steps = tuple(replace(report.steps[0], skipped=skipped) for _ in range(10))
    text = to_markdown(replace(report, steps=steps))
    assert len(text) < 65_536
    assert "4988 more reasons" in text


def test_names_of_the_user_stay_text(report: RunReport) -> None:
    text = to_markdown(replace(report, notices=(Notice("n", "a|b <img src=x>\n# c"),)))
    assert r"> a\|b \<img src=x\> # c" in text
