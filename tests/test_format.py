from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.format import (
    IDENTICAL_DB,
    format_bytes,
    format_change,
    format_count,
    format_db,
    format_ms,
    format_percent,
    format_points,
    format_rate,
    format_seconds,
    format_size,
    format_speed,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_bytes(0), "0 B"),
        (format_bytes(999), "999 B"),
        (format_bytes(999_600), "1.00 MB"),
        (format_bytes(1_234_567), "1.23 MB"),
        (format_bytes(90_400_000), "90.4 MB"),
        (format_bytes(2_500_000_000), "2.50 GB"),
        (format_count(115), "115"),
        (format_count(9_999), "9,999"),
        (format_count(4_652_008), "4.65 M"),
        (format_count(385_187_552), "385 M"),
        (format_ms(0.0123), "12.3 us"),
        (format_ms(0.85), "850 us"),
        (format_ms(10.668), "10.7 ms"),
        (format_ms(1250.0), "1.25 s"),
        (format_seconds(0.04), "0.04 s"),
        (format_seconds(12.34), "12.3 s"),
        (format_seconds(125), "2 min 05 s"),
        (format_rate(10840.3), "10,840"),
        (format_rate(25.31), "25.3"),
        (format_rate(0.8333), "0.83"),
        (format_percent(1.0), "100 %"),
        (format_percent(0.0), "0 %"),
        (format_percent(1.0, digits=0), "100 %"),
        (format_percent(0.0, digits=0), "0 %"),
        (format_percent(0.985), "98.5 %"),
        (format_percent(0.99999), "99.9 %"),
        (format_percent(0.00001), "0.1 %"),
        (format_points(-0.001), "-0.1 points"),
        (format_points(0.0004), "+0.04 points"),
        (format_points(0.0), "same"),
        (format_db(31.26), "31.3 dB"),
        (format_db(math.inf), "identical"),
        (format_db(IDENTICAL_DB), "identical"),
        (format_db(199.0), "199.0 dB"),
        (format_db(-IDENTICAL_DB), "all noise"),
        (format_speed(0.48), "2.1x faster"),
        (format_speed(1 / 12.4), "12x faster"),
        (format_speed(1 / 1.04), "4 % faster"),
        (format_speed(1.2), "1.2x SLOWER"),
        (format_speed(1.04), "4 % SLOWER"),
        (format_speed(1.001), "same speed"),
        (format_size(0.294), "3.4x smaller"),
        (format_size(0.88), "12 % smaller"),
        (format_size(1.02), "2 % LARGER"),
        (format_size(1.0), "same size"),
        (format_change(100, 26), "-74 %"),
        (format_change(1000, 997), "-0.3 %"),
        (format_change(5, 5), "same"),
        (format_change(0, 5), "new"),
    ],
)
def test_reads_as_a_person_writes(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(min_value=1e-9, max_value=1 - 1e-9))
def test_no_share_between_is_rounded_to_none_or_all(share: float) -> None:
    assert format_percent(share) not in ("0 %", "100 %")


@given(st.floats(min_value=0, max_value=1e15), st.sampled_from([format_bytes, format_count]))
def test_no_number_is_wider_than_a_column(size: float, formatted) -> None:
    assert len(formatted(size)) <= 8


@given(st.floats(min_value=0.01, max_value=100))
def test_never_calls_slower_faster(ratio: float) -> None:
    text = format_speed(ratio)
    assert ("faster" in text) == (1 / ratio - 1 >= 0.005)
    assert ("SLOWER" in text) == (ratio - 1 >= 0.005)
