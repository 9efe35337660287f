"""A process that converts a Paddle model to ONNX: paddle2onnx ends its process on an operator that it lacks.

Its arguments: the model, its parameters, the file to write, the opset.
"""

import sys
from pathlib import Path


def main(model, parameters, target, opset):
    """Write the ONNX model."""
    import paddle2onnx

    # Not by `save_file`: then paddle2onnx lets Polygraphy install packages, from an index that pip does not know.
    content = paddle2onnx.export(model, parameters, save_file=None, opset_version=int(opset))
    Path(target).write_bytes(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
