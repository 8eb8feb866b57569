import os
import sys

from nvidia_emulator import SWITCH, modules

if os.environ.get(SWITCH):  # a process that was started on the emulated machine; a test inside pytest knows
    print("*** EMULATION *** This tensorrt is that of tests/tensorrt_emulator: ONNX Runtime on the CPU, no GPU.",
          file=sys.stderr)
sys.modules[__name__] = modules.tensorrt()
