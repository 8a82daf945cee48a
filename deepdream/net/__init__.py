"""A net in pycaffe's shape, the files that it comes from, and how pictures become its data."""
from .net import Net

__all__ = ["Net"]
