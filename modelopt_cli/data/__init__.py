"""Calibration and evaluation data, streamed."""

from modelopt_cli.data.binding import BoundDataset, bind
from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.data.files import FileDataset, open_dataset
from modelopt_cli.data.signature import InputSpec, Signature, signature
from modelopt_cli.data.synthetic import RandomDataset

__all__ = [
    "BoundDataset",
    "Dataset",
    "FileDataset",
    "InputSpec",
    "RandomDataset",
    "Sample",
    "Signature",
    "bind",
    "open_dataset",
    "signature",
]
