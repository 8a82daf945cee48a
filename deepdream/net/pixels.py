"""The notebook's functions preprocess and deprocess, between a picture and the data of a net."""
import numpy as np


def preprocess(net, img: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3), RGB 0 to 255, as Caffe's input (C, H, W): channels in the net's order, mean subtracted."""
    name = net.inputs[0]
    chw = np.moveaxis(np.asarray(img), 2, 0)
    mean, swap = net.transformer.mean[name], net.transformer.channel_swap[name]
    if len(mean) == 1:      # a grey net: ITU-R 601, as in Pillow's and Caffe's readers
        return np.float32(np.tensordot(np.float32([0.299, 0.587, 0.114]), chw, 1)[None]) - mean
    return np.float32(chw[list(swap)]) - mean


def deprocess(net, img: np.ndarray) -> np.ndarray:
    """Undo `preprocess`: (C, H, W) to a picture (H, W, 3)."""
    name = net.inputs[0]
    mean, swap = net.transformer.mean[name], net.transformer.channel_swap[name]
    chw = img + mean
    chw = np.repeat(chw, 3, axis=0) if len(mean) == 1 else chw[np.argsort(swap)]
    return np.dstack(chw)
