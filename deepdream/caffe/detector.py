"""Stands in for `caffe.detector`, which is not supported."""
from .refused import Refused

Detector = Refused("caffe.Detector", "cut the windows out yourself and pass them to Classifier.predict")
