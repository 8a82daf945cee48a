"""Read the files of a Caffe net, upgrade them to the current format, and convert the net to an ONNX forward graph."""
