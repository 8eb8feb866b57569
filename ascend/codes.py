"""What the error codes of atc and of ACL mean, and what to do about them.

The numbers are those of CANN's headers and of its error_code.json; the advice is for this workflow.
"""
from __future__ import annotations

import re
from typing import List, Tuple

Advice = Tuple[str, str]  # meaning, what to do

_DYNAMIC: Advice = ("the dynamic gears break a rule or exclude another option",
                    "give 2 to 100 different gears (256 on 950), an ONNX whose batch is symbolic, and no other dynamic "
                    "option")
_SHAPE: Advice = ("the input shape is malformed", "write it as NAME:16,3,256,192, as this script does")
_NO_FILE: Advice = ("a file that an option names is not there", "check the path")
_MISMATCH: Advice = ("the asked shape is not that of the model",
                     "export the ONNX for this batch: pth2onnx.py --batch N")
_OPERATOR: Advice = ("an operator of the ONNX is unknown to this CANN, or its opset is too new",
                     "export with --opset 11, which every CANN takes")
_COMPILE: Advice = ("an operator did not compile",
                    "run python3 -m ascend.doctor (Python and numpy of this CANN); with little memory set "
                    "TE_PARALLEL_COMPILER=1")
_PYTHON: Advice = ("a Python package of the operator compiler cannot be imported",
                   "python3 -m ascend.doctor names all packages that are missing; numpy must be below 2 up to CANN 8.2")
_INNER: Advice = ("an inner error of CANN, often of mismatched versions",
                  "run python3 -m ascend.doctor, then read the plog in the log folder")
_NO_KERNEL: Advice = ("no kernel of an operator for this chip",
                      "check --soc_version with python3 -m ascend.doctor; from CANN 8.5 on a chip's operators are a "
                      "package of their own (Ascend-cann-...-ops)")

ATC = {
    "E10001": ("an option has an invalid value", "check the spelling of --soc_version and the options"),
    "E10002": _SHAPE, "E10011": _SHAPE, "E10012": _SHAPE,
    "E10004": ("an option is empty", "check the shell's quoting"),
    "E10007": ("--framework is missing", "check the shell's quoting"),
    "E10054": ("a required option is missing", "check the shell's quoting"),
    **dict.fromkeys(("E10009", "E10018", "E10031", "E10035", "E10036", "E10037", "E10038", "E10039", "E10040",
                     "E10045", "E10046", "E10047", "E10056"), _DYNAMIC),
    "E10016": ("the model has no input or node of that name", "the input must be called what the ONNX calls it"),
    "E10021": _NO_FILE, "E10022": _NO_FILE, "E10410": _NO_FILE,
    "E10034": ("an input with AIPP cannot take float16", "leave --input_fp16_nodes out"),
    "E10041": ("the model file cannot be parsed", "the .onnx is truncated or damaged: export it again"),
    "E10049": _MISMATCH, "E10050": _MISMATCH,
    "E10052": ("the AIPP configuration is invalid", "leave the file to --uint8, which writes it"),
    **dict.fromkeys(("E10501", "EZ0501", "E16002", "E16005", "E19010", "EZ9010"), _OPERATOR),
    "E19999": _INNER, "EZ9999": _INNER,
    **dict.fromkeys(("E20001", "E20101", "E40021", "E90000"), _COMPILE),
    "E40001": ("atc cannot load libpython of the python3 on PATH",
               "put a Python with a shared library first on PATH, not one of a venv, and the folder of its libpython "
               "into LD_LIBRARY_PATH; python3 -m ascend.doctor shows what is found"),
    **dict.fromkeys(("E40002", "E40020", "E40024"), _PYTHON),
    "EZ3002": _NO_KERNEL, "EZ3003": _NO_KERNEL,
    "EE1001": ("the runtime was given an invalid argument", "check that the .om was built for this --soc_version"),
    "EE1002": ("waiting for the device timed out", "check the device with npu-smi info"),
}
ATC_FAMILIES = {"EH": ("ACL was given a wrong argument", "read the text that follows the code"),
                "EL": ("the driver reports a failure", "check the driver with python3 -m ascend.doctor")}

_DEVICE_MEMORY: Advice = ("the device has no memory left",
                          "stop other processes on it (npu-smi info lists them) or take a smaller batch")
_OM_VERSION: Advice = ("this CANN cannot read the .om: it is damaged or of a newer CANN",
                       "build it here with python3 -m ascend.atc")
_DEVICE_FAULT: Advice = ("the device reports a fault", "check it with npu-smi info, then restart the machine")
_ARGUMENT: Advice = ("ACL was given a wrong argument", "please report it: this is a defect of the program")
_GEAR: Advice = ("the batch is not one of the .om's gears", "take one of the gears it was built with")
_INTERNAL: Advice = ("an internal error of CANN", "read the plog in ~/ascend/log, and run python3 -m ascend.doctor")

ACL = {
    100000: _ARGUMENT, 107000: _ARGUMENT, 145000: _ARGUMENT, 107003: _ARGUMENT,
    100001: ("ACL is not initialised", "please report it: this is a defect of the program"),
    145001: ("ACL is not initialised", "please report it: this is a defect of the program"),
    100002: ("ACL is initialised already", "let one library of the process initialise it"),
    100003: ("a file cannot be read", "check its path and permissions"),
    100005: ("a file has a wrong size", "check that it was copied whole"),
    100011: ("no model of that id is loaded", "please report it: this is a defect of the program"),
    145003: ("no model of that id is loaded", "please report it: this is a defect of the program"),
    100012: _OM_VERSION, 100013: _OM_VERSION, 500002: _OM_VERSION, 545001: _OM_VERSION,
    100014: ("the .om cannot be read", "check its path and permissions"),
    145002: ("the .om cannot be read", "check its path and permissions"),
    100017: ("the inputs do not fit the model", "build the .om for this batch and --cfg"),
    100018: ("the outputs do not fit the model", "build the .om for this batch and --cfg"),
    100019: ("the model is not dynamic", "build it with --gears, or take its own batch"),
    100037: ("ACL is finalised already", "let one library of the process do it"),
    100039: ("the stub library of ACL is linked", "source set_env.sh, and keep devlib out of LD_LIBRARY_PATH"),
    107001: ("there is no such device",
             "take an id that python3 -m ascend.doctor lists; the NPU ids of npu-smi are others"),
    107002: ("the thread has no context", "please report it: this is a defect of the program"),
    107019: ("waiting for the device timed out", "check the device with npu-smi info"),
    107020: ("a task on the device timed out", "check the device with npu-smi info"),
    145009: ("the model is loaded twice", "please report it: this is a defect of the program"),
    145011: _GEAR, 145012: _GEAR, 145013: _GEAR,
    **dict.fromkeys((145014, 145015, 145016), ("the AIPP of the .om is misused", "build the .om again")),
    148049: ("ASCEND_OPP_PATH is wrong", "source the set_env.sh of the CANN in use"),
    **dict.fromkeys((200000, 207001, 207018, 245000), _DEVICE_MEMORY),
    200001: ("this chip or CANN does not support it", "run python3 -m ascend.doctor"),
    207000: ("this chip or CANN does not support it", "run python3 -m ascend.doctor"),
    207004: ("no device is visible", "check /dev/davinci*, the driver, and ASCEND_RT_VISIBLE_DEVICES"),
    300000: ("a storage limit is reached", "free disk space"),
    **dict.fromkeys((500000, 500001, 500003, 500005, 507000, 545000), _INTERNAL),
    500004: ("the driver reports an internal error", "check driver and firmware with python3 -m ascend.doctor"),
    507899: ("the driver reports an internal error", "check driver and firmware with python3 -m ascend.doctor"),
    507008: ("the .om is for another chip, or the driver's version cannot be read",
             "build it with the --soc_version that python3 -m ascend.doctor shows; in a container mount "
             "/usr/local/Ascend/driver and /etc/ascend_install.info"),
    507011: ("the model failed on the device", "read the plog in ~/ascend/log; was it built for this chip and CANN?"),
    507014: ("the AI core timed out", "check the device with npu-smi info, then try a smaller batch"),
    507015: ("the AI core reports an exception", "read the plog in ~/ascend/log; was the .om built by this CANN?"),
    507033: ("the device cannot be opened",
             "compare driver, firmware and CANN (python3 -m ascend.doctor); in a container pass /dev/davinci*, "
             "davinci_manager, devmm_svm and hisi_hdc; otherwise join the group HwHiAiUser"),
    507046: ("waiting for a stream timed out", "check the device with npu-smi info"),
    507053: _DEVICE_FAULT, 507901: _DEVICE_FAULT,
    545601: ("executing the model timed out", "check the device with npu-smi info"),
}
# What a code of no entry tells by its first digit.
ACL_RANGES = {1: ("the caller or the environment is wrong", "run python3 -m ascend.doctor"),
              2: ("a resource is missing or the chip does not support it", "run python3 -m ascend.doctor"),
              3: ("the device is not in a state to do it", "check it with npu-smi info"),
              5: _INTERNAL}

_ATC_CODE = re.compile(r"\b(E[EHLZ]?\d{4,5})\b(?=[:\[])")
# In the texts of ais_bench and of CANN's logs a code follows one of these words.
_ACL_CODE = re.compile(r"(?:code|ret|error|failed|result)\D{0,20}?\b([1-35]\d{5})\b", re.IGNORECASE)
_AICPU_STOPPED = "TsdOpen"


def explain_acl(code: int) -> str:
    meaning, remedy = ACL.get(code) or ACL_RANGES.get(code // 100000, _INTERNAL)
    return f"{code}: {meaning}. {_sentence(remedy)}"


def explain_atc(code: str) -> str:
    meaning, remedy = ATC.get(code) or ATC_FAMILIES.get(code[:2], _INNER)
    return f"{code}: {meaning}. {_sentence(remedy)}"


def explain_output(text: str) -> List[str]:
    """One line for each different code in what a tool of CANN printed, in the order of appearance."""
    lines = [explain_atc(code) for code in _ATC_CODE.findall(text)]
    lines += [explain_acl(int(code)) for code in _ACL_CODE.findall(text)]
    if _AICPU_STOPPED in text:
        lines.append("TsdOpen: the AI CPU did not start. Reported to help: unset ASCEND_AICPU_PATH")
    return list(dict.fromkeys(lines))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
