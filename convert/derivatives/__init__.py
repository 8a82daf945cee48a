"""Derivatives as mathematics: a table with one entry an ONNX operator. The ways to compute some of them faster are in
`convert.fast`."""
