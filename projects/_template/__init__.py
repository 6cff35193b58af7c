"""A method to copy: the MLLM looks at the first frame and then at every k-th."""

from .pipeline import TemplatePipeline

__all__ = ["TemplatePipeline"]
