"""Caffe's files: read, upgraded and turned into an ONNX forward graph."""
