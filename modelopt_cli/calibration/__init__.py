"""Streaming calibration: what values do a model's tensors take?"""

from modelopt_cli.calibration.collector import collect_channel_stats, collect_ranges
from modelopt_cli.calibration.ranges import ChannelStats, ObserverName, ObserverOptions, Range

__all__ = ["ChannelStats", "ObserverName", "ObserverOptions", "Range", "collect_channel_stats", "collect_ranges"]
