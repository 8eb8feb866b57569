"""The smallest network that shows what is computed otherwise, as a folder for the tracker of whoever made it."""
from __future__ import annotations

import io
from pathlib import Path
from typing import List, Optional

import numpy as np

from contract.files import make_folder, remove_file, write_file
from layers.operator_fault import OperatorFault

MODEL, README, EXPECTED, GOT, INPUT = "model.onnx", "README.txt", "expected.npy", "got.npy", "input{}.npy"
TEXT = """{sentence}

model.onnx is this layer alone, {nodes}.

{files}

With numpy and onnxruntime this prints how far ONNX Runtime is from both outputs:

    {command}
"""
PROGRAM = ("import numpy as np, onnxruntime as ort; "
           "s = ort.InferenceSession('model.onnx', providers=['CPUExecutionProvider']); "
           "r = s.run(None, {{i.name: np.load(f) for i, f in zip(s.get_inputs(), {inputs})}})[0]; "
           "print([(f, abs(r - o).max() if r.shape == o.shape else o.shape) "
           "for f in ('expected.npy', 'got.npy') for o in [np.load(f)]])")


def write_reproduction(folder: Path, fault: Optional[OperatorFault]) -> None:
    """The layer with its inputs and both outputs, and how to run it; what an earlier run left is removed."""
    for path in [folder / MODEL, folder / README, *folder.glob("*.npy")]:
        remove_file(path)
    if fault is None:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        return
    make_folder(folder)
    inputs = [INPUT.format(number or "") for number in range(len(fault.layer.inputs))]
    arrays = dict(zip([*inputs, EXPECTED, GOT], [*fault.layer.inputs.values(), fault.expected, fault.got]))
    write_file(folder / MODEL, fault.layer.model.SerializeToString())
    for name, values in arrays.items():
        content = io.BytesIO()
        np.save(content, values)
        write_file(folder / name, content.getvalue())
    write_file(folder / README, describe(fault, inputs).encode())


def describe(fault: OperatorFault, inputs: List[str]) -> str:
    whose = [*fault.layer.inputs, "the output by ONNX Runtime", "the output of the other side"]
    shapes = [*(values.shape for values in fault.layer.inputs.values()), fault.expected.shape, fault.got.shape]
    nodes = " and ".join(node.op_type for node in fault.layer.model.graph.node)
    files = "\n".join(f"    {name}: {what}, {' x '.join(map(str, shape))}"
                      for name, what, shape in zip([*inputs, EXPECTED, GOT], whose, shapes))
    command = f'python3 -c "{PROGRAM.format(inputs=inputs)}"'
    return TEXT.format(sentence=fault.sentence, nodes=nodes, files=files, command=command)
