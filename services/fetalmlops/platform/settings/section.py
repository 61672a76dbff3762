"""What all sections of the settings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Bytes", "Port", "Seconds", "Section"]

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Settings of one concern; the docstring of a field says its unit and range."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
