"""Trains and exports the sample models; run through `sample_models/build.py`. Needs PyTorch, the package never does."""
