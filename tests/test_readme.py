"""What the README promises is run here."""

import re
from pathlib import Path

from pipeline.sources.inputs import sample_path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_six_lines_of_python_work(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) == 6
    monkeypatch.chdir(tmp_path)
    (tmp_path / "entrance.mp4").symlink_to(sample_path())
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "entrance" in printed
    assert re.search(r"^\d+ people; see", printed, flags=re.MULTILINE)
    assert (tmp_path / "results" / "report.html").exists()


def test_every_file_the_readme_points_to_exists():
    targets = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
