"""The derivatives of ONNX operators, written as plain mathematics: a table with one entry for each operator.

Faster forms of some of them are in `convert.fast`.
"""
