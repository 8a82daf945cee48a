"""Dream with many real classifiers, and compare every gradient with PyTorch's in float64: a table of nets.

    python tests/many_nets.py export NETS.txt FOLDER         write the nets of a list as .onnx files
    python tests/many_nets.py check FOLDER [NAME ...]        print a line for each of them

Needs torch, torchvision and timm (weights are random; nothing is downloaded). NETS.txt has one net in each line, as in
tests/many_nets.txt: `timm:vit_tiny_patch16_224:64:s old` is the net of timm at 64 px (`s`: the net is told this size),
written by the TorchScript exporter; `new` is the other exporter. The checks compare with the .onnx file itself, run by
PyTorch in float64 (`tests/torch_runner.py`), so that every tensor of the file can be looked at.
"""
