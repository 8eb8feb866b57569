"""An emulated Ascend machine, for tests and for rehearsing a card run where there is no card.

    from tests.emulator import environment
    subprocess.run([...], env=environment(soc="Ascend310P3", devices=4))

`atc` and `npu-smi` are then on PATH, `acl`, `aclruntime` and `ais_bench` on PYTHONPATH, and the ASCEND_* variables are
as set_env.sh leaves them. By hand, for one command:

    python3 -m tests.emulator -- bash scripts/run_bs16.sh Ascend310P3 --demo

Numbers of speed that come out of it are the CPU's. lib/ascend_emulator/machine.py lists what can be configured.
"""
from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

HERE = Path(__file__).resolve().parent
SWITCH = "ASCEND_EMULATOR"
CANN = "9.1.0"  # of the releases with a table in the documents, the one for most versions of Python and numpy


def environment(base: Optional[Dict[str, str]] = None, acl: bool = True, ais_bench: Optional[str] = "new",
                package: str = "", set_env: bool = True, python: Optional[Path] = None,
                **config: Any) -> Dict[str, str]:
    """The environment of a process on an emulated machine.

    acl: whether Python can import acl. ais_bench: "old" (2023), "new" (2024) or None where it is not installed.
    package: a folder with the real ais_bench package of that generation, which then runs on the emulated aclruntime.
    python: the python3 that the machine has on PATH, if not this one. It needs numpy, and tqdm for ais_bench; without
    ONNX Runtime there, models run in a child process of this one.
    set_env: False for a shell in which nobody sourced set_env.sh: no atc, no acl, no ASCEND_* variable.
    config: the fields of `Machine` in lib/ascend_emulator/machine.py, for example soc="Ascend910B2", devices=8.
    """
    env = dict(os.environ if base is None else base)
    env[SWITCH] = "1"
    env["EMULATOR_PYTHON"] = sys.executable
    env["EMULATOR_CONFIG"] = json.dumps(config)
    modules = [package] if package else []
    modules += [str(HERE / "site_ais_bench" / ais_bench)] if ais_bench else []
    modules += [str(HERE / "site_setuptools")] if config.get("setuptools", True) else []
    programs = [str(HERE / "bin_driver"), str(Path(python or sys.executable).parent)]
    if set_env:
        home = _toolkit(config.get("cann", CANN), config.get("kernels", True))
        env.update(ASCEND_TOOLKIT_HOME=str(home), ASCEND_HOME_PATH=str(home), ASCEND_AICPU_PATH=str(home),
                   ASCEND_OPP_PATH=str(home / "opp"), TOOLCHAIN_HOME=str(home / "toolkit"))
        modules += [str(HERE / "site_cann"), *([str(HERE / "site_acl")] if acl else [])]
        programs.insert(0, str(HERE / "bin"))
        _put_in_front(env, "LD_LIBRARY_PATH", [str(home / "lib64")])
    else:
        for name in [name for name in env if name.startswith("ASCEND_") and name != SWITCH]:
            del env[name]
    _put_in_front(env, "PYTHONPATH", [*modules, str(HERE / "lib")])
    _put_in_front(env, "PATH", programs)
    return env


def _toolkit(cann: str, kernels: bool) -> Path:
    """What there is to see of a toolkit: files with its version, of which one names that of a component, and the
    folders of the operators of chips."""
    root = Path(tempfile.gettempdir()) / f"ascend_emulator_{os.getuid()}"
    home = root / (cann if kernels else f"{cann}_without_operators") / "latest"
    for chip in ("310", "310p", "310b", "910", "910b", "910_93", "950") if kernels else ():
        (home / "opp" / "built-in" / "op_impl" / "ai_core" / "tbe" / "kernel" / f"ascend{chip}" / "conv2d").mkdir(
            parents=True, exist_ok=True)
    _write(home / f"{os.uname().machine}-linux" / "ascend_toolkit_install.info",
           f"package_name=Ascend-cann-toolkit\nversion={cann}\n")
    _write(home / "compiler" / "version.info", f"Version=7.7.0.1.238\nversion_dir={cann}\n")
    _write(home / "version.cfg", f"# version: 1.0\nruntime_running_version=[7.7.0.1.238:{cann}]\n")
    _write(home / "EMULATED", "")
    return home


def _write(path: Path, text: str) -> None:
    """Whole at any moment: all emulated machines of this user share it, and some may be reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text)
    os.replace(partial, path)


def _put_in_front(env: Dict[str, str], name: str, folders: List[str]) -> None:
    env[name] = os.pathsep.join([*folders, *filter(None, [env.get(name)])])
