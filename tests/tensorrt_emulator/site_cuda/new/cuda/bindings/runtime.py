import sys

from nvidia_emulator import modules

sys.modules[__name__] = modules.cuda_runtime(__name__)
