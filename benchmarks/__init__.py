"""Measurements against peers, and of ourselves; each runs without the cache: a figure is never an earlier run's."""

import os

os.environ["MODELOPT_CACHE_SIZE"] = "0"
