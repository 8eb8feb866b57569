"""The emulated npu-smi, and how the emulator is switched on."""
from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from tests.emulator import SWITCH, environment
from tests.emulator.__main__ import BANNER
from tests.emulator.local import configured, load

ROW_B = re.compile(r"^\|\s*(\d+)(?:\s+(\d+))?\s*\|\s*((?:[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d)|NA)\s*\|")
ROW_A = re.compile(r"^\|\s*(\d+)\s+([A-Za-z0-9][\w-]*)\s*\|\s*(\w+)\s*\|")  # both are ascend.md's, section 1.2


def read_table(text):
    """(NPU id, name, health, chip, device id, bus) of each device, by the two rows that it has."""
    found, head = [], None
    for line in text.split("Process id")[0].splitlines():
        below = ROW_B.match(line)
        if below:
            found.append((*head, *below.groups()))
        elif ROW_A.match(line):
            head = ROW_A.match(line).groups()
    return found


def npu_smi(capsys, *argv, **config):
    with configured(**config):
        code = load("ascend_emulator.npu_smi").main(list(argv))
    return code, capsys.readouterr().out


def test_npu_smi_prints_what_was_printed_by_cards(shared, capsys):
    folder = shared / "golden" / "npu_smi"
    for output in json.loads((folder / "index.json").read_text())["outputs"]:
        devices = output["devices"]
        socs = {device["soc_version"] for device in devices} - {None}
        numbers = [device["device_id"] for device in devices]
        if len(socs) != 1 or numbers != list(range(len(devices))):
            continue  # a machine that the emulator cannot be: it still prints its recording
        cards = list(dict.fromkeys(device["npu_id"] for device in devices))
        _, text = npu_smi(capsys, "info", soc=socs.pop(), devices=len(devices), npu_smi={
            "npu_ids": cards, "version": output["tool_version"], "chips": len(devices) // len(cards)})
        real = (folder / output["file"]).read_text()
        without_bus = [[row[:-1] for row in read_table(table)] for table in (text, real)]
        assert without_bus[0] == without_bus[1], output["file"]
        assert len(without_bus[0]) == len(devices)
        code, copy = npu_smi(capsys, "info", npu_smi={"file": str(folder / output["file"])})
        assert (code, copy) == (0, real)


def test_npu_smi_of_a_card_is_as_recorded(shared, capsys):
    real = (shared / "golden" / "npu_smi" / "310P3_23.0.rc2_npu8.txt").read_text()
    _, text = npu_smi(capsys, "info", npu_smi={"npu_ids": [8], "version": "23.0.rc2"})
    assert text.rstrip("\n") == real.rstrip("\n")


@pytest.mark.parametrize("soc, devices, expected", [
    ("Ascend310", 5, [("0", "310", "OK", "0", "0"), ("1", "310", "OK", "0", "4")]),
    ("Ascend310P3", 2, [("0", "310P3", "OK", "0", "0"), ("1", "310P3", "OK", "0", "1")]),
    ("Ascend910B4-1", 2, [("0", "910B4-1", "OK", "0", None), ("1", "910B4-1", "OK", "0", None)]),
    ("Ascend910_9391", 3, [("0", "Ascend910", "OK", "0", "0"), ("1", "Ascend910", "OK", "0", "2")])])
def test_npu_smi_layouts(capsys, soc, devices, expected):
    _, text = npu_smi(capsys, "info", soc=soc, devices=devices)
    rows = [row[:-1] for row in read_table(text)]
    assert len(rows) == devices or soc == "Ascend310"
    assert expected[0] in rows and expected[-1] in rows


def test_npu_smi_queries(capsys):
    code, text = npu_smi(capsys, "info", "-t", "board", "-i", "0", "-c", "0", soc="Ascend910_9391")
    fields = dict(re.split(r"\s+: ", line.strip()) for line in text.splitlines())
    assert code == 0 and (fields["Chip Name"], fields["NPU Name"]) == ("Ascend910", "9391")
    assert npu_smi(capsys, "info", "-t", "board", "-i", "7")[0] == 1
    assert "Power Dissipation(W)" in npu_smi(capsys, "info", "-t", "power", "-i", "0")[1]
    code, text = npu_smi(capsys, "info", npu_smi={"error": -8005})
    assert code != 0 and "-8005" in text


def run_python(env, code):
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def test_the_parts_of_a_machine_can_be_absent(tmp_path):
    names = ("acl", "aclruntime", "ais_bench", "pkg_resources")
    code = (f"import importlib.util, os, shutil\nprint([importlib.util.find_spec(name) is not None for name in {names}]"
            ", [shutil.which(name) is not None for name in ('atc', 'npu-smi')], 'ASCEND_HOME_PATH' in os.environ)")
    for options, expected in (({}, "[True, True, True, True] [True, True] True"),
                              ({"acl": False}, "[False, True, True, True] [True, True] True"),
                              ({"ais_bench": None}, "[True, False, False, True] [True, True] True"),
                              ({"set_env": False}, "[False, True, True, True] [False, True] False")):
        assert run_python(environment(**options), code).stdout.strip() == expected, options


def test_it_refuses_to_be_imported_by_accident():
    env = environment()
    del env[SWITCH]
    done = run_python(env, "import acl")
    assert done.returncode == 1 and "ImportError: this is the Ascend emulator of the tests, not CANN" in done.stderr


def test_the_rehearsal_says_that_it_is_one():
    command = [sys.executable, "-m", "tests.emulator", "--soc", "Ascend910B2", "--devices", "3", "--", sys.executable,
               "-c", "import acl; acl.init(); print(acl.get_soc_name(), acl.rt.get_device_count()); acl.finalize();"
               "raise SystemExit(5)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 5 and done.stdout == "Ascend910B2 (3, 0)\n"
    assert done.stderr.count(BANNER) == 2 and "still open" not in done.stderr
