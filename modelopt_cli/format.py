"""Numbers as a person reads them; every table, verdict and message formats them here."""

from __future__ import annotations

BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")
COUNT_UNITS = ("", "k", "M", "G", "T", "P")
PERCENT_BELOW = 1.195  # a smaller ratio reads better as percent: "4 % faster", not "1.0x faster"
SAME_WITHIN = 0.005  # a change that rounds to 0 % is none
IDENTICAL_DB = (
    200.0  # signal to noise of equal tensors: finite, so that it can be compared, averaged and stored as JSON
)


def format_bytes(size: float) -> str:
    """``1234567`` -> ``1.23 MB``: decimal units, three digits."""
    return _scaled(size, BYTE_UNITS)


def format_count(count: float) -> str:
    """``4652008`` -> ``4.65 M``; below 10,000 exactly, with a thousands separator."""
    return f"{count:,.0f}" if abs(count) < 10_000 else _scaled(count, COUNT_UNITS)


def format_ms(milliseconds: float) -> str:
    """Milliseconds with three digits, in the unit that fits: ``850 us``, ``10.7 ms``, ``1.25 s``."""
    if milliseconds < 0.9995:
        return f"{_three_digits(milliseconds * 1e3)} us"
    return f"{_three_digits(milliseconds)} ms" if milliseconds < 999.5 else f"{_three_digits(milliseconds / 1e3)} s"


def format_seconds(seconds: float) -> str:
    """``0.04 s``, ``12.3 s``, ``2 min 05 s``."""
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    return f"{round(seconds) // 60} min {round(seconds) % 60:02} s"


def format_percent(share: float, digits: int = 1) -> str:
    """``0.985`` -> ``98.5 %``; never rounded to 100 or 0 when it is not."""
    step = 10.0**-digits
    percent = share * 100
    if 0 < share < 1:
        percent = min(max(round(percent, digits), step), 100 - step)
    text = f"{percent:.{digits}f}"
    return f"{float(text):.0f} %" if float(text) in (0, 100) else f"{text} %"


def format_rate(per_second: float) -> str:
    """Times a second: ``10,840``, ``25.3``, ``0.83``."""
    return f"{per_second:,.0f}" if per_second >= 99.95 else _three_digits(per_second)


def format_points(difference: float) -> str:
    """A difference of two shares, signed: ``-0.001`` -> ``-0.1 points``."""
    text = f"{difference * 100:+.2f}" if 0 < abs(difference) < 0.00095 else f"{difference * 100:+.1f}"
    return f"{text} points" if float(text) else "same"


def format_db(decibel: float) -> str:
    """``32.1 dB``; ``identical`` from `IDENTICAL_DB` on, ``all noise`` from its negative on, or of no number."""
    if decibel >= IDENTICAL_DB:
        return "identical"
    return f"{decibel:.1f} dB" if decibel > -IDENTICAL_DB else "all noise"


def format_times(ratio: float) -> str:
    """A factor of 1 or more: ``2.1x``, ``1.24x`` is ``1.2x``, from 10 on without decimals."""
    return f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:.0f}x"


def format_speed(ratio: float) -> str:
    """The result's time as a share of the original's, in words: ``2.1x faster``, ``4 % SLOWER``."""
    return _in_words(1 / ratio, "faster", "SLOWER", "same speed")


def format_size(ratio: float) -> str:
    """The result's bytes as a share of the original's, in words: ``3.4x smaller``, ``12 % smaller``, ``2 % LARGER``."""
    if 1 - ratio >= SAME_WITHIN and 1 / ratio < PERCENT_BELOW:
        return f"{(1 - ratio) * 100:.0f} % smaller"
    return _in_words(1 / ratio, "smaller", "LARGER", "same size")


def format_change(original: float, result: float) -> str:
    """A count's change: ``-74 %``, ``+2 %``, ``same``; ``-0.3 %`` when it would round to nothing."""
    if original == result:
        return "same"
    if original == 0:
        return "new"
    change = (result / original - 1) * 100
    return f"{change:+.0f} %" if abs(change) >= 0.95 else f"{change:+.1g} %"


def _in_words(gain: float, better: str, worse: str, same: str) -> str:
    word, factor = (better, gain) if gain >= 1 else (worse, 1 / gain)
    if factor - 1 < SAME_WITHIN:
        return same
    return f"{(factor - 1) * 100:.0f} % {word}" if factor < PERCENT_BELOW else f"{format_times(factor)} {word}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= 999.5 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.0f} {units[0]}".strip() if power == 0 else f"{_three_digits(value)} {units[power]}"


def _three_digits(value: float) -> str:
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"
