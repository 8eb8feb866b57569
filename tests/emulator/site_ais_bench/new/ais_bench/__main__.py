"""`python3 -m ais_bench` on an emulated machine."""
from ascend_emulator.ais_bench.main import run

if __name__ == "__main__":
    run("new")
