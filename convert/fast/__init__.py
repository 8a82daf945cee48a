"""Fast forms of derivatives: the same mathematics as `convert.derivatives`, written so that onnxruntime computes it
quickly. `forms.FORMS` lists them; `convert.gradient_graph(..., fast=False)` does without."""
