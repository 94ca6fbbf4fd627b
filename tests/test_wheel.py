"""The wheel holds the library only and runs alone."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_installs_and_runs_alone(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"versatile_influence/py.typed", "versatile_influence/cli/report.html"} <= {*names}
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"versatile_influence"}
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import torch, versatile_influence as vif;"
        "assert vif.__file__.startswith(sys.argv[1]), vif.__file__;"
        "loss = vif.losses.CoxLoss([[1.], [0.], [1.], [0.]], [1, 2, 3, 4], [1, 1, 0, 1]);"
        "theta = vif.minimize(loss, loss.zeros());"
        "print(vif.attribute(loss, theta, loss.coefficients()).scores.shape)"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", program, str(site)], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert "[4, 1]" in run.stdout
