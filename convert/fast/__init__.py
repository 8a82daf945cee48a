"""Fast forms of derivatives: the mathematics of `convert.derivatives`, written so that onnxruntime computes it quickly.

`forms.FORMS` lists them. `convert.gradient_graph(..., fast=False)` does not use them.
"""
