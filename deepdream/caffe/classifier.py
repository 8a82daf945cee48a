"""Stands in for pycaffe's Classifier: a net with the preparation of its pictures."""
import numpy as np

from . import io
from .net import TEST, Net


class Classifier(Net):
    """A net with its preprocessing in `transformer`, and `predict`.

    model_file, pretrained_file: paths of the prototxt and the caffemodel.
    image_dims: (h, w) that pictures are resized to before they are cropped; the input's size if None.
    mean, input_scale, raw_scale, channel_swap: see `io.Transformer`; without a mean, none is subtracted.
    """

    def __init__(self, model_file, pretrained_file, image_dims=None, mean=None, input_scale=None, raw_scale=None,
                 channel_swap=None, **options):
        super().__init__(model_file, TEST, weights=pretrained_file, **options)
        name = self.inputs[0]
        t = self.transformer = io.Transformer({name: self.blobs[name].shape})
        t.set_transpose(name, (2, 0, 1))
        for setting, value in ((t.set_mean, mean), (t.set_input_scale, input_scale), (t.set_raw_scale, raw_scale),
                               (t.set_channel_swap, channel_swap)):
            if value is not None:
                setting(name, value)
        self.crop_dims = np.array(self.blobs[name].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else np.array(image_dims)

    def predict(self, inputs, oversample=True):
        """Return what the net's output says of pictures: (N, classes).

        inputs: pictures (H, W, C).
        oversample: whether to take the mean over ten crops, instead of the centre alone.
        """
        pictures = [io.resize_image(picture, self.image_dims) for picture in inputs]
        if oversample:
            crops = io.oversample(pictures, self.crop_dims)
        else:
            y, x = (self.image_dims - self.crop_dims) // 2
            crops = [p[y:y + self.crop_dims[0], x:x + self.crop_dims[1]] for p in pictures]
        name = self.inputs[0]
        data = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        src = self.blobs[name]
        if src.shape[2:] != data.shape[2:]:      # the net was run at another size
            src.reshape(min(len(data), 10), *data.shape[1:])
        found = self.forward_all(**{name: data})[self.outputs[0]]
        found = found.reshape(len(found), -1)
        return found.reshape(len(pictures), 10, -1).mean(1) if oversample else found
