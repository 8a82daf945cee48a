"""Nets in ONNX files of any make: checked, and brought into the form that converted Caffe nets have."""
