"""Limits on outputs as options, the same for every pass that removes as much as they allow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MinAgreement = Annotated[
    float | None,
    Field(ge=0, le=1, description="Likewise: share of equal answers to keep, on calibration samples not fitted to."),
]
MinSqnr = Annotated[
    float | None, Field(ge=0, description="Likewise: decibels the outputs keep, on calibration samples.")
]
