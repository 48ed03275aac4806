"""Slimmable networks as files for other runtimes."""

from joslim.shipping.onnx_bundle import export_onnx as export_onnx
