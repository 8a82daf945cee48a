"""What a dream maximizes at its `end`.

Any function of `dst` that sets `dst.diff` is an objective, as in the notebook. An `Objective` also knows itself as
ONNX nodes, and so runs inside the step graph, with the picture on the device.
"""
import numpy as np

PRODUCTS = 1 << 24      # of the matrix of dot products with a guide, so many (64 MB) at a time


class Objective:
    """A built-in objective.

    formula: what is maximized, in a line. inputs: arrays that its nodes read, by name.
    """
    formula = ""

    def __init__(self, **inputs):
        self.inputs = inputs

    def __call__(self, dst):
        """Set dst.diff, in NumPy: the reference for `nodes`."""
        raise NotImplementedError

    def nodes(self, g, x, inputs):
        """Append the objective's nodes to graph g. x: the value of `end` (1, C, h, w). inputs: {name: Tensor}.
        Returns (value, diff): the objective, a scalar, and its gradient by x."""
        raise NotImplementedError


class L2(Objective):
    formula = "1/2 sum(x^2)"

    def __call__(self, dst):
        dst.diff[:] = dst.data

    def nodes(self, g, x, inputs):
        return g.op("ReduceSumSquare", x, keepdims=0) * 0.5, x


class objective_guide(Objective):
    """The notebook's guide: each position of the picture follows the position of the guide that fits it best.

    guide_features: the guide's values at `end`, (C, h, w) or (1, C, h, w) float32.
    """
    formula = "sum over positions of max over j of x . y_j"

    def __init__(self, guide_features):
        y = np.asarray(guide_features, np.float32)
        y = y[0] if y.ndim == 4 else y
        if y.ndim != 3:
            raise ValueError(f"guide_features must be (C, h, w), not {y.shape}")
        super().__init__(guide=np.ascontiguousarray(y.reshape(y.shape[0], -1)))

    def __call__(self, dst):
        y = self.inputs["guide"]
        x = dst.data[0].reshape(y.shape[0], -1)
        best = np.empty(x.shape[1], np.int64)
        block = max(1, PRODUCTS // y.shape[1])
        for i in range(0, x.shape[1], block):
            best[i:i + block] = x[:, i:i + block].T.dot(y).argmax(1)
        dst.diff[0].reshape(y.shape[0], -1)[:] = y[:, best]

    def nodes(self, g, x, inputs):
        y = inputs["guide"]
        flat = g.op("Transpose", g.op("Squeeze", g.op("Reshape", x, [0, 0, -1]), [0]), perm=[1, 0])   # (positions, C)
        best = self._best(g, flat, y)
        diff = g.op("Reshape", g.op("Gather", y, best, axis=1), g.shape(x))
        return g.op("ReduceSum", x * diff, keepdims=0), diff

    @staticmethod
    def _best(g, flat, y):
        """For each position the column of y with the largest dot product, block by block."""
        from onnx import TensorProto, helper
        count = g.shape(flat, start=0, end=1)
        block = g.op("Max", g.op("Div", [PRODUCTS], g.shape(y, start=1)), [1])
        block = g.op("Min", block, count)
        short = g.op("Mod", g.op("Sub", block, g.op("Mod", count, block)), block)    # rows missing in the last block
        padded = g.op("Pad", flat, g.op("Concat", [0, 0], short, [0], axis=0))
        blocks = g.op("Reshape", padded, g.op("Concat", [-1], block, g.shape(flat, start=1), axis=0))
        body = helper.make_graph(
            [helper.make_node("MatMul", ["scan:block", y.name], ["scan:products"]),
             helper.make_node("ArgMax", ["scan:products"], ["scan:best"], axis=1, keepdims=0)], "best of a block",
            [helper.make_tensor_value_info("scan:block", TensorProto.FLOAT, [None, None])],
            [helper.make_tensor_value_info("scan:best", TensorProto.INT64, [None])])
        best = g.op("Scan", blocks, body=body, num_scan_inputs=1)
        return g.slice(g.op("Reshape", best, [-1]), [0], [0], count)


objective_L2 = L2()
