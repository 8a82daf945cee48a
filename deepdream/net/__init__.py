"""Nets with the interface of pycaffe, the files that they are read from, and the preparation of pictures."""
from .net import Net

__all__ = ["Net"]
