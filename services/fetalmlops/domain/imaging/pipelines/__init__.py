"""Named normalisation pipelines: from the stored frames of any scanner to what a model starts from."""

from fetalmlops.domain.imaging.pipelines.named import HARMONISED, PIPELINES, PLAIN, find_pipeline, pipeline_of

__all__ = ["HARMONISED", "PIPELINES", "PLAIN", "find_pipeline", "pipeline_of"]
