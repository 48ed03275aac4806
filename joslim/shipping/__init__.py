"""Slimmable networks as files for other runtimes."""

from joslim.shipping.latency import configuration_latencies as configuration_latencies
from joslim.shipping.onnx_bundle import export_onnx as export_onnx
from joslim.shipping.pt2_program import export_pt2 as export_pt2
