"""The error codes of the emulated atc and their texts."""
from __future__ import annotations

import os
import time

# code -> (text, possible cause, solution); the text takes the arguments of the failure
TEXTS = {
    "E10001": ("Value [{value}] for parameter [--{flag}] is invalid. Reason: {reason}", "the value is not allowed",
               "Set the parameter to a value that its page lists."),
    "E10002": ("Value [{value}] for parameter [--input_shape] is invalid. Reason: {reason}. The value must be "
               "formatted as \"input_name1:n1,c1,h1,w1;input_name2:n2,c2,h2,w2\".", "the shape cannot be read",
               "Write every input as name:dimensions."),
    "E10004": ("Value for [--{flag}] is empty.", "an empty value", "Give the parameter a value."),
    "E10007": ("[--framework] is required. The value must be [0(Caffe) or 1(MindSpore) or 3(TensorFlow) or 5(Onnx)].",
               "the parameter is missing", "Add --framework."),
    "E10016": ("Opname [{value}] specified in [--{flag}] is not found in the model. Confirm whether this node name "
               "exists, or node is not split with the specified delimiter ';'.", "the name is wrong",
               "Use the names of the model."),
    "E10018": ("Value [{value}] for shape [{index}] is invalid. When [--dynamic_batch_size] is included, only batch "
               "size N can be -1 in [--input_shape].", "another axis is -1", "Set only the first axis to -1."),
    "E10031": ("Failed to set --dynamic_batch_size: no batch axis of --input_shape is -1.", "the batch is fixed",
               "Set the first axis to -1."),
    "E10034": ("Nodes (for example, [{value}]) connected to AIPP must not be of type fp16.",
               "--input_fp16_nodes names an AIPP input", "Remove it there."),
    "E10035": ("[--{flag}] has [{count}] profiles, which is less than the minimum ([{limit}]).", "too few gears",
               "Give more, or build a static model."),
    "E10036": ("[--{flag}] has [{count}] profiles, which is greater than the maximum ([{limit}]).", "too many gears",
               "Give fewer."),
    "E10039": ("Profile [{value}] of [--{flag}] is given more than once.", "a repeated gear", "Give each gear once."),
    "E10040": ("The [--input_shape] parameter must hold -1 only with a dynamic parameter.", "a -1 without gears",
               "Add --dynamic_batch_size or a fixed batch."),
    "E10041": ("Failed to parse the model file {value}: {reason}", "the file is damaged", "Export it again."),
    "E10045": ("[--dynamic_batch_size] and [--{flag}] are exclusive.", "two dynamic parameters", "Keep one."),
    "E10049": ("Dimension count {came} of input [{value}] in [--input_shape] is not the model's {expected}.",
               "the ranks differ", "Give every dimension."),
    "E10050": ("Dimension {index} of input [{value}] in [--input_shape] is {came}, the model has {expected}.",
               "the model's dimension is fixed", "Export the model with a symbolic dimension, or give its own."),
    "E10052": ("Failed to parse the AIPP configuration {value}: {reason}", "a wrong key or value",
               "Correct the file."),
    "E10054": ("Required parameter [--{flag}] is missing.", "the parameter is missing", "Add it."),
    "E10056": ("[--dynamic_dims] and [--insert_op_conf] are exclusive.", "AIPP with dynamic dims", "Remove one."),
    "E10021": ("Path [{value}] of parameter [--{flag}] is invalid. Reason: {reason}", "no such file or no permission",
               "Give a path that can be used."),
    "E10410": ("File [{value}] of parameter [--{flag}] does not exist.", "no such file", "Give an existing file."),
    "E16005": ("The model has [{count}] [--domain_version] fields of one domain, only one is allowed.",
               "an opset given twice", "Export the model again."),
    "E19010": ("No parser is registered for Op [{value}, optype [{kind}]].", "the operator or its version is not "
               "supported", "Export the model with an older opset."),
    "E19999": ("Inner Error! {reason}", "an internal failure", "See the plog."),
    "E20001": ("Operator compilation failed. {reason}", "a problem of the TBE environment",
               "Check Python, numpy and memory."),
    "E40001": ("The libpython of the python3 in the environment cannot be loaded.", "python3 has no shared library",
               "Install a Python that has one, or set LD_LIBRARY_PATH."),
    "E40020": ("Failed to import a Python module of the operator compiler. Reason: {reason}", "a package is missing",
               "Install it for the python3 in the environment."),
    "EZ3003": ("No supported Ops kernel and engine are found for [{value}], optype [{kind}].",
               "the operators of the chip are not installed", "Install the package that has them."),
    "E40021": ("Failed to compile Op [{value}]. (oppath: [Compile /usr/local/Ascend/opp/built-in failed with "
               "errormsg/stack: {reason}])", "a problem of the TBE environment", "Check Python and numpy."),
}


class AtcError(Exception):
    """The run ends with this code; the keywords fill its text."""

    def __init__(self, code: str, **details: object):
        self.code = code
        self.text = TEXTS[code][0].format(**details)
        super().__init__(f"{code}: {self.text}")

    def block(self, newer: bool) -> str:
        """What atc prints after its failure line; newer releases put process and time in front of the text."""
        _, cause, solution = TEXTS[self.code]
        head = f"[PID: {os.getpid()}] {time.strftime('%Y-%m-%d-%H:%M:%S')}.000.000 " if newer else ""
        return (f"{self.code}: {head}{self.text}\n        Possible Cause: {cause}\n        Solution: {solution}\n"
                "        TraceBack (most recent call last):\n"
                f"        ATC failed with {self.code}[FUNC:Run][FILE:main_impl.cc]")
