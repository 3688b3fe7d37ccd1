"""Which requests to the endpoint are kept, and what of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from retraining.recipe.rules import SECTION, Between


@dataclass(frozen=True, kw_only=True)
class Capture:
    """SageMaker's data capture: nothing is kept unless a recipe says so, since images may show people.

    Source: SageMaker's API reference, DataCaptureConfig.
    """

    __pydantic_config__ = SECTION

    percent: Annotated[int, Between(0, 100, " percent")] = 0
    """Of the requests, drawn at random."""
    keep: Literal["both", "images", "answers"] = "both"

    @property
    def keeps_images(self) -> bool:
        return bool(self.percent) and self.keep != "answers"

    @property
    def modes(self) -> list[str]:
        """Of SageMaker's CaptureOptions."""
        return {"both": ["Input", "Output"], "images": ["Input"], "answers": ["Output"]}[self.keep]
