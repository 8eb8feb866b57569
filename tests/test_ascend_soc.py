"""The soc version and the ids of devices, read as real cards print them."""
from __future__ import annotations

import json
import re
import subprocess

import pytest
from ascend_cases import run
from conftest import ROOT, one_error

from ascend.soc import CARDS, check_soc_version, chip_of_card, parse_npu_smi, parse_versions
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
A3 = HEAD.format("24.1.rc3").replace("Chip    Device", "Chip  Phy-ID ") + """\
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
    (A3, [(2, 0, 0), (2, 1, 1)], "Ascend910", None), (A950, [(5, 0, 0), (6, 0, 1)], "Ascend950PR", None),
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
    ("Ascend910B", "Ascend910B1, B2"), ("910b", "Ascend910B1, B2"), ("cpu", "npu-smi info"),
    ("Atlas 300I Pro", "type Ascend310P3")])
def test_names_that_need_help(name, hint):
    with pytest.raises(UserError) as error:
        check_soc_version(name)
    assert hint in str(error.value)


def test_a_driver_that_fails_or_is_not_there(tmp_path):
    held, silent = (one_error(run(environment(acl=False, npu_smi={"error": error}), "-m", "ascend.soc"))
                    for error in (-8020, -8005))
    assert "-8020: another container" in held and "-8005: the driver does not answer" in silent
    env = {**environment(acl=False), "PATH": str(tmp_path)}
    assert "npu-smi is not on PATH" in one_error(run(env, "-m", "ascend.soc"))


@pytest.mark.parametrize("acl", [True, False])
def test_a_first_generation_card_that_calls_its_chip_910b(acl):
    """Eight such cards are public: "910B" with HBM of 32768 MB. Their machine says so itself, so atc means it too."""
    env = environment(acl=acl, soc="Ascend910B", devices=8)
    assert run(env, "-m", "ascend.soc").stdout.strip() == "Ascend910B"
    doctor = run(env, "-m", "ascend.doctor", "--soc_version", "Ascend910B", "--runner", "acl").stdout
    assert re.search("soc version +ok +Ascend910B", doctor)
    assert check_soc_version("Ascend910B", "Ascend910B") == "Ascend910B"
    with pytest.raises(UserError, match="Ascend910B1, B2"):
        check_soc_version("Ascend910B", "Ascend910B2")


def test_devices_of_a3_in_a_container_are_counted_from_0_and_not_by_their_place_in_the_machine():
    env = environment(soc="Ascend910_9391", devices=2, npu_smi={"phy_ids": {"0": 4, "1": 5}})
    shown = subprocess.run(["npu-smi", "info"], env=env, capture_output=True, text=True).stdout
    assert "Phy-ID" in shown and [device.device_id for device in parse_npu_smi(shown)] == [0, 1]
    mapping = subprocess.run(["npu-smi", "info", "-m"], env=env, capture_output=True, text=True).stdout
    assert re.split(r"\s{2,}", mapping.strip())[2:4] == ["Chip Logic ID", "Phy-ID"]
    assert re.search("open device 1 +ok", run(env, "-m", "ascend.doctor", "--device", "0,1").stdout)


@pytest.mark.parametrize("name, chip", [
    ("Atlas 300I", "Ascend310"), ("300I", "Ascend310"), ("Atlas 300I 3010", "Ascend310"), ("300i-pro", "Ascend310P3"),
    ("Atlas 300I (Model 3000)", "Ascend310"), ("300I Pro", "Ascend310P3"), ("Atlas300IDuo", "Ascend310P3"),
    ("300V", "Ascend310P3"), ("Atlas 300V Pro", "Ascend310P3"), ("Atlas 200 DK", "Ascend310"), ("RTX 3090", None),
    ("Ascend310P3", None), ("300", None)])
def test_products_lead_to_chips(name, chip):
    assert chip_of_card(name) == chip


def test_the_target_of_a_job_may_not_be_a_product(main):
    error = main("run", "--targets", "300I Duo", "--plan")
    assert "type Ascend310P3" in one_error(error)


@pytest.mark.parametrize("page", ["ascend.md", "ascend.zh-CN.md"])
def test_the_pages_name_every_product_with_its_chip(page):
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    for name, (chip, count) in CARDS.items():
        assert [name, chip, str(count)] in [[row[0], row[1].strip("`"), row[2]] for row in rows if len(row) == 3], name
