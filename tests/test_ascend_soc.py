"""The soc version and the ids of devices, read as real cards print them."""
from __future__ import annotations

import json

import pytest
from ascend_cases import run
from conftest import one_error

from ascend.soc import check_soc_version, parse_npu_smi, parse_versions
from contract.errors import UserError
from tests.emulator import environment

HEAD = """+-------------------+-----------------+------------------------------+
| npu-smi {0}                 Version: {0}                    |
+-------------------+-----------------+------------------------------+
| NPU     Name      | Health          | Power(W)   Temp(C)           |
| Chip    Device    | Bus-Id          | AICore(%)  Memory-Usage(MB)  |
+===================+=================+==============================+
"""
RULE = "+===================+=================+==============================+\n"
FOUR_CHIPS = HEAD.format("21.0.2") + "".join(
    f"| {npu}    310       | OK              | 12.8       4{chip}                |\n"
    f"| {chip}       {device}         | 0000:0{chip + 5}:00.0    | 0          2703 / 8192       |\n" + RULE
    for npu, chip, device in ((2048, 0, 0), (2048, 1, 1), (2049, 0, 4), (2049, 3, 7)))
BOARD_WITHOUT_BUS = HEAD.format("23.0.rc3") + """\
| 0       310B4     | Alarm           | 0.0        58                |
| 0       0         | NA              | 0          1753 / 3513       |
""" + RULE
OLD_910 = HEAD.format("1.8.21") + """\
| 3     910A        | OK              | 71.5       33                |
| 0                 | 0000:C1:00.0    | 0          591  / 15079      |
""" + RULE
A3 = HEAD.format("24.1.rc3") + """\
| 2     Ascend910   | OK              | 178.3      36                |
| 0     4           | 0000:0B:00.0    | 0          0    / 0          |
+-------------------+-----------------+------------------------------+
| 2     Ascend910   | OK              | -          36                |
| 1     5           | 0000:0D:00.0    | 0          0    / 0          |
""" + RULE + """\
| NPU     Chip      | Process id      | Process name                 |
| 2       0         | 4711            | python3                      |
"""
A950 = """\
    | npu-smi 25.7.rc1                  Version: 25.7.rc1                             |
    +--------+------------------+---------------+-------------------------------------+
    | NPU ID | Name             | Health        | Power(W)    Temp(C)                 |
    |        |                  | Bus-Id        | NPU Util(%) Memory-Usage(MB)        |
    +========+==================+===============+=====================================+
    | 5      | Ascend950PR      | OK            | 195.6       56                      |
    |        |                  | 0000:61:00.0  | 0           0    / 0                |
    | 6      | Ascend950PR      | OK            | 195.6       56                      |
    |        |                  | 0000:62:00.0  | 0           0    / 0                |
    | No running processes found in NPU 0                                             |
"""


def test_recorded_outputs(shared):
    folder = shared / "golden" / "npu_smi"
    for case in json.loads((folder / "index.json").read_text())["outputs"]:
        text = (folder / case["file"]).read_text()
        found = [{**device._asdict(), "soc_version": device.soc_version} for device in parse_npu_smi(text)]
        assert found == case["devices"], case["file"]
        assert parse_versions(text) == (case["tool_version"], case["driver_version"])


@pytest.mark.parametrize("text, ids, name, soc", [
    (FOUR_CHIPS, [(2048, 0, 0), (2048, 1, 1), (2049, 0, 4), (2049, 3, 7)], "310", "Ascend310"),
    (BOARD_WITHOUT_BUS, [(0, 0, 0)], "310B4", "Ascend310B4"), (OLD_910, [(3, 0, 0)], "910A", "Ascend910A"),
    (A3, [(2, 0, 4), (2, 1, 5)], "Ascend910", None), (A950, [(5, 0, 0), (6, 0, 1)], "Ascend950PR", None),
    (HEAD.format("23.0"), [], "", "")])
def test_layouts(text, ids, name, soc):
    devices = parse_npu_smi(text)
    assert [(device.npu_id, device.chip, device.device_id) for device in devices] == ids
    assert all(device.name == name and device.soc_version == soc for device in devices)


@pytest.mark.parametrize("acl", [True, False])
@pytest.mark.parametrize("soc", ["Ascend310", "Ascend310P3", "Ascend310B1", "Ascend910A", "Ascend910B2C",
                                 "Ascend910_9391", "Ascend950PR_9599"])
def test_every_family_is_recognised(tmp_path, soc, acl):
    done = run(environment(soc=soc, acl=acl, npu_smi={"npu_ids": [8]}), "-m", "ascend.soc")
    assert done.stdout.strip() == soc, done.stderr


@pytest.mark.parametrize("name", ["Ascend310P3", "Ascend310", "Ascend910B4-1", "Ascend910_9391", "Ascend910_95",
                                  "Ascend950PR_9599"])
def test_names_that_atc_takes(name):
    assert check_soc_version(name) == name


@pytest.mark.parametrize("name, hint", [
    ("ascend310p3", "Did you mean Ascend310P3?"), ("310P3", "Did you mean Ascend310P3?"),
    ("Ascend310p", "Ascend310P1, Ascend310P3"), ("Ascned310P3", "Ascend310P3"), ("Ascend310B", "Ascend310B1"),
    ("Ascend910B", "Ascend910B1, B2"), ("910b", "Ascend910B1, B2"), ("cpu", "npu-smi info")])
def test_names_that_need_help(name, hint):
    with pytest.raises(UserError) as error:
        check_soc_version(name)
    assert hint in str(error.value)


def test_a_driver_that_fails_or_is_not_there(tmp_path):
    held = run(environment(acl=False, npu_smi={"error": -8005}), "-m", "ascend.soc")
    assert "another container" in one_error(held)
    env = {**environment(acl=False), "PATH": str(tmp_path)}
    assert "npu-smi is not on PATH" in one_error(run(env, "-m", "ascend.soc"))
