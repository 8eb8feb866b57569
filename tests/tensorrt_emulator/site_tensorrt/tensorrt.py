import sys

from nvidia_emulator import modules

sys.modules[__name__] = modules.tensorrt()
