import importlib.metadata
import subprocess
import sys

from pipeline.doctor import OUR_PACKAGES, examine, name_clashes
from pipeline.version import __version__


def test_nobody_else_brings_packages_of_our_names():
    owners = importlib.metadata.packages_distributions()
    for name in OUR_PACKAGES:
        assert {d.lower() for d in owners[name]} == {"trackletgait"}


def test_a_package_of_one_of_our_names_is_found_by_the_doctor(monkeypatch):
    owners = {name: ["trackletgait"] for name in OUR_PACKAGES} | {"trackers": ["trackers"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    (clash,) = (f for f in name_clashes() if f.verdict == "problem")
    assert clash.subject == "name trackers"
    assert "pip uninstall trackers" in clash.detail


def test_the_doctor_finds_this_machine_fit(tmp_path):
    findings = list(examine(tmp_path))
    assert [f for f in findings if f.verdict == "problem"] == []
    subjects = {f.subject for f in findings}
    assert {"torch", "GPU", "decoders", "model ssdlite-coco-300", "results folder"} <= subjects


def test_the_doctor_says_that_results_cannot_be_written(tmp_path):
    findings = {f.subject: f for f in examine(tmp_path / "missing")}
    assert findings["results folder"].verdict == "problem"


def test_the_command_line_answers_without_loading_torch():
    code = "import sys, pipeline.cli; assert 'torch' not in sys.modules; print('quick')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "quick", done.stderr


def test_the_installed_program_knows_its_version():
    assert importlib.metadata.version("trackletgait") == __version__


def test_ctrl_c_while_the_command_line_is_being_loaded_shows_no_traceback():
    code = """
import sys
from pipeline.__main__ import main
class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == "pipeline.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
