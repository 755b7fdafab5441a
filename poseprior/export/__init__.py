"""Priors for other runtimes: `export_onnx` writes ONNX files of densities, gradients and draws."""

from .functions import WHAT, exportable
from .onnx import export_onnx

__all__ = ["WHAT", "export_onnx", "exportable"]
