import subprocess
import sys

RESIDENT = """
import sys
import numpy as np, psutil
from pipeline.memory import return_freed_memory
if sys.argv[1] == "returned":
    return_freed_memory()
process = psutil.Process()
for _ in range(3):  # glibc learns from the first ones it frees
    blocks = [np.ones(20 * 2**20, np.uint8) for _ in range(10)]
    pins = [np.ones(1000, np.uint8) for _ in range(100)]
    del blocks
print(process.memory_info().rss // 2**20)
"""


def resident_mb(how):
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_large_freed_blocks_go_back_to_the_system():
    # 200 MB were used and freed; numpy, psutil and Python themselves take about 40.
    assert resident_mb("returned") < 100
