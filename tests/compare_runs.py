"""Run a copy of the project: python tests/compare_runs.py FOLDER

Fails where the run isn't clean, isn't of the full set, takes more than 3 GB (measured
as Linux does), or where the test accuracy is further from the committed one than
chapter 5 says.
"""

import re
import resource
import subprocess
import sys
from pathlib import Path

from notebook import NOTEBOOK, committed, read
from test_committed import check_clean, prose, results_of_run, told

command = [sys.executable, "-m", "jupyter", "nbconvert", "--to=notebook"]
command += ["--execute", NOTEBOOK, "--output=new.ipynb"]
subprocess.run(command, cwd=sys.argv[1], check=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
new = read(Path(sys.argv[1], "new.ipynb").read_bytes())
old = read(committed(NOTEBOOK))
check_clean(new)
assert "MNIST, full: " in told(new), "not a run on the full set"
rows = [results_of_run(run)["MLP, warped"] for run in (new, old)]
tests = [float(row["test"].rstrip("%")) for row in rows]
stated = float(re.search(r"within (\d+\.\d+) percentage points", prose(old)).group(1))
print(f"peak memory {peak:.2f} GB; test accuracy {tests[0]} %, committed {tests[1]} %")
sys.exit(peak > 3 or abs(tests[0] - tests[1]) > stated + 1e-6)
