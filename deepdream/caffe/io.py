"""Stands in for `caffe.io`: pictures in and out of a net's input."""
import numpy as np
import scipy.ndimage as nd

from ..convert.caffe import caffe_pb2

__all__ = ["Transformer", "array_to_blobproto", "blobproto_to_array", "caffe_pb2", "load_image", "oversample",
           "resize_image"]
INSTEAD = {
    **dict.fromkeys(["array_to_datum", "datum_to_array"], "databases are for training; give the net the array itself"),
    **dict.fromkeys(["arraylist_to_blobprotovector_str", "blobprotovector_str_to_arraylist"],
                    "array_to_blobproto and blobproto_to_array, one by one"),
}


def __getattr__(name):
    if name in INSTEAD:
        raise AttributeError(f"caffe.io.{name} is not supported here: {INSTEAD[name]}")
    raise AttributeError(f"module 'deepdream.caffe.io' has no attribute '{name}'; it has {', '.join(__all__)}")


def load_image(filename, color=True):
    """A picture as float32 (H, W, 3) RGB, or (H, W, 1) with color=False, from 0 to 1 (deepdream.load: 0 to 255)."""
    from ..pictures import load
    rgb = load(filename) / np.float32(255)
    return rgb if color else (rgb @ np.float32([0.2125, 0.7154, 0.0721]))[..., None]


def resize_image(im, new_dims, interp_order=1):
    """(H, W, K) to (new_dims[0], new_dims[1], K), float32; the corners of the outer pixels stay where they are."""
    im = np.asarray(im, np.float32)
    if im.shape[:2] == tuple(new_dims):
        return im.copy()
    scale = [n / h for n, h in zip(new_dims, im.shape)]
    return nd.zoom(im, (*scale, 1), order=interp_order, mode="nearest", grid_mode=True)


def oversample(images, crop_dims):
    """Of each (H, W, K) picture ten crops: four corners, the centre, and these five mirrored: (10 N, h, w, K)."""
    (h, w), crops = (int(d) for d in crop_dims), []
    for im in images:
        down, right = im.shape[0] - h, im.shape[1] - w
        places = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        five = [im[y:y + h, x:x + w] for y, x in places]
        crops += five + [crop[:, ::-1] for crop in five]
    return np.float32(crops)


def blobproto_to_array(blob, return_diff=False):
    """The array in a BlobProto (a mean.binaryproto, a layer's weights)."""
    values = np.array(blob.diff if return_diff else blob.data, np.float64 if blob.double_data else np.float32)
    return values.reshape(tuple(blob.shape.dim) if blob.HasField("shape") else
                          (blob.num, blob.channels, blob.height, blob.width))


def array_to_blobproto(arr, diff=None):
    """A BlobProto that holds an array."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    for values, field in ((arr, blob.data), (diff, blob.diff)):
        if values is not None:
            field.extend(np.asarray(values, np.float64).ravel())
    return blob


class Transformer:
    """How a picture becomes a net's input. inputs: {name of the blob: its shape (N, C, H, W)}.

    `preprocess` resizes to the shape, transposes, swaps channels, multiplies by raw_scale, subtracts the mean and
    multiplies by input_scale, each if it is set; `deprocess` goes back, but for the size. The settings are dicts by
    the blob's name, as in Caffe: `mean['data']` is (C, 1, 1).
    """

    def __init__(self, inputs):
        self.inputs = dict(inputs)
        self.transpose, self.channel_swap, self.raw_scale, self.mean, self.input_scale = {}, {}, {}, {}, {}

    def _shape(self, in_):
        if in_ not in self.inputs:
            raise KeyError(f"no input called '{in_}'; the net has {', '.join(self.inputs)}")
        return tuple(self.inputs[in_])

    def set_transpose(self, in_, order):
        if sorted(order) != list(range(len(self._shape(in_)) - 1)):
            raise ValueError(f"an order of {len(self._shape(in_)) - 1} axes is needed, not {order}")
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_, order):
        if len(order) != self._shape(in_)[1]:
            raise ValueError(f"'{in_}' has {self._shape(in_)[1]} channels; the order {order} does not fit")
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_, scale):
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_input_scale(self, in_, scale):
        self._shape(in_)
        self.input_scale[in_] = scale

    def set_mean(self, in_, mean):
        """mean: one number a channel, or a whole picture (C, H, W), which is resized to the input."""
        mean, (channels, *size) = np.asarray(mean, np.float32), self._shape(in_)[1:]
        if mean.ndim == 4 and len(mean) == 1:
            mean = mean[0]
        if mean.ndim == 1:
            mean = mean[:, None, None]
        elif mean.ndim == 3 and mean.shape[1:] != (1, 1):
            mean = np.moveaxis(resize_image(np.moveaxis(mean, 0, 2), size), 2, 0)
        if mean.ndim != 3 or len(mean) != channels:
            raise ValueError(f"a mean of shape {mean.shape} does not fit '{in_}' with {channels} channels")
        self.mean[in_] = mean

    def preprocess(self, in_, data):
        """(H, W, C) to (C, h, w) float32."""
        x = resize_image(data, self._shape(in_)[2:])
        if in_ in self.transpose:
            x = x.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            x = x[list(self.channel_swap[in_])]
        x = x * np.float32(self.raw_scale.get(in_, 1)) - self.mean.get(in_, np.float32(0))
        return x * np.float32(self.input_scale.get(in_, 1))

    def deprocess(self, in_, data):
        """(C, h, w) or (1, C, h, w) to (h, w, C)."""
        self._shape(in_)
        x = np.squeeze(data) / np.float32(self.input_scale.get(in_, 1)) + self.mean.get(in_, np.float32(0))
        x = x / np.float32(self.raw_scale.get(in_, 1))
        if in_ in self.channel_swap:
            x = x[np.argsort(self.channel_swap[in_])]
        return x.transpose(np.argsort(self.transpose[in_])) if in_ in self.transpose else x
