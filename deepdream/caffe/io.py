"""Stands in for `caffe.io`: pictures in and out of a net's input."""
import numpy as np
from PIL import Image
from scipy.ndimage import zoom

from ..errors import DreamError
from .proto import caffe_pb2
from .refused import Refused

__all__ = ["Transformer", "array_to_blobproto", "array_to_datum", "arraylist_to_blobprotovector_str",
           "blobproto_to_array", "blobprotovector_str_to_arraylist", "caffe_pb2", "datum_to_array", "load_image", "np",
           "oversample", "resize", "resize_image", "zoom"]

_DATUM = "databases are for training; give the net the array itself"
array_to_datum, datum_to_array = (Refused(f"caffe.io.{name}", _DATUM) for name in ("array_to_datum", "datum_to_array"))


def __getattr__(name):
    if name != "skimage":
        raise AttributeError(f"module 'caffe.io' has no attribute '{name}'; it has {', '.join(__all__)}")
    try:
        import skimage.io
        import skimage.transform      # noqa: F401
        return skimage
    except ImportError:
        return Refused("caffe.io.skimage", "pip install scikit-image")


def load_image(filename, color=True):
    """Read a picture as it lies in the file: a rotation in its metadata is not applied, transparency is dropped.

    filename: path of the picture.
    color: whether to return three channels, instead of one of grey.

    Returns float32 (H, W, 3), RGB, or (H, W, 1), from 0 to 1. Raises DreamError for what cannot be read.
    """
    try:
        with Image.open(filename) as image:
            image.load()
            if image.mode.startswith("I") or image.mode == "F":
                grey = np.asarray(image, np.float32) / np.float32(65535 if image.mode != "F" else 1)
                return np.repeat(grey[..., None], 3 if color else 1, 2)
            if image.mode in ("P", "PA", "LA"):
                image = image.convert("RGBA")
            rgb = np.float32(image.convert("RGB")) / np.float32(255)
    except Image.DecompressionBombError as error:
        raise DreamError(f"{filename}: cannot be read: {error}") from None
    except (OSError, ValueError, SyntaxError) as error:      # Pillow raises all of them for damaged files
        why = getattr(error, "strerror", None) or "no picture, or damaged"
        raise DreamError(f"{filename}: cannot be read: {why}") from None
    return rgb if color else (rgb @ np.float32([0.2125, 0.7154, 0.0721]))[..., None]


def resize(image, output_shape, order=1, **options):
    """Stand in for skimage.transform.resize, without its smoothing of smaller pictures.

    image: (H, W) or (H, W, K).
    output_shape: (h, w).
    order: of the spline, 0 to 5.

    Returns float64 (h, w) or (h, w, K), within the range of the numbers in `image`.
    """
    image = np.asarray(image, np.float64)
    scale = [n / h for n, h in zip(output_shape[:2], image.shape)] + [1] * (image.ndim - 2)
    found = zoom(image, scale, order=order, mode="grid-constant", grid_mode=True)
    return np.clip(found, image.min(), image.max())


def resize_image(im, new_dims, interp_order=1):
    """Resize a picture as pycaffe does (Caffe: io.py).

    im: (H, W, K). With 1 or 3 channels the corners of the outer pixels stay where they are, with any other number their
    centres do.
    new_dims: (h, w).
    interp_order: of the spline, 0 to 5.

    Returns float32 (h, w, K).
    """
    im, (h, w) = np.asarray(im), (int(d) for d in new_dims)
    if im.shape[-1] not in (1, 3):
        scale = np.array((h, w), float) / im.shape[:2]
        return np.float32(zoom(im, (*scale, 1), order=interp_order))
    low, high = im.min(), im.max()
    if low == high:
        return np.full((h, w, im.shape[-1]), low, np.float32)
    return np.float32(resize((im - low) / (high - low), (h, w), interp_order) * (high - low) + low)


def oversample(images, crop_dims):
    """Cut ten crops of each picture: four corners, the centre, and these five mirrored.

    images: N pictures (H, W, K).
    crop_dims: (h, w).

    Returns float32 (10 N, h, w, K).
    """
    (h, w), crops = (int(d) for d in crop_dims), []
    for im in images:
        down, right = im.shape[0] - h, im.shape[1] - w
        places = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        five = [im[y:y + h, x:x + w] for y, x in places]
        crops += five + [crop[:, ::-1] for crop in five]
    return np.float32(crops)


def blobproto_to_array(blob, return_diff=False):
    """Return the array in a BlobProto (a mean.binaryproto, a layer's weights)."""
    values = np.array(blob.diff if return_diff else blob.data, np.float64 if blob.double_data else np.float32)
    return values.reshape(tuple(blob.shape.dim) if blob.HasField("shape") else
                          (blob.num, blob.channels, blob.height, blob.width))


def array_to_blobproto(arr, diff=None):
    """Return a BlobProto that holds an array."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    for values, field in ((arr, blob.data), (diff, blob.diff)):
        if values is not None:
            field.extend(np.asarray(values, np.float64).ravel())
    return blob


def arraylist_to_blobprotovector_str(arraylist):
    """Return the bytes of a BlobProtoVector that holds arrays."""
    return caffe_pb2.BlobProtoVector(blobs=map(array_to_blobproto, arraylist)).SerializeToString()


def blobprotovector_str_to_arraylist(text):
    """Return the arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(text).blobs]


class Transformer:
    """The preparation of pictures for a net.

    inputs: {name of the blob: its shape (N, C, H, W)}.

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
        """Set the mean to subtract: a number for each channel, or a picture (C, H, W), to be resized to the input."""
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
        """Turn a picture (H, W, C) into the net's input, float32 (C, h, w)."""
        x, size = np.asarray(data, np.float32), tuple(self._shape(in_)[2:])
        if x.shape[:2] != size:
            x = resize_image(x, size)
        if in_ in self.transpose:
            x = x.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            x = x[list(self.channel_swap[in_])]
        x = x * np.float32(self.raw_scale.get(in_, 1)) - self.mean.get(in_, np.float32(0))
        return x * np.float32(self.input_scale.get(in_, 1))

    def deprocess(self, in_, data):
        """Turn an input of the net, (C, h, w) or (1, C, h, w), into a picture (h, w, C)."""
        self._shape(in_)
        x = np.squeeze(data) / np.float32(self.input_scale.get(in_, 1)) + self.mean.get(in_, np.float32(0))
        x = x / np.float32(self.raw_scale.get(in_, 1))
        if in_ in self.channel_swap:
            x = x[np.argsort(self.channel_swap[in_])]
        return x.transpose(np.argsort(self.transpose[in_])) if in_ in self.transpose else x
