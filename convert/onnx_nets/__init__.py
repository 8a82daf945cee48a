"""Check ONNX files from any exporter, and bring the nets into the form of converted Caffe nets."""
