from __future__ import annotations

import json
from pathlib import Path

import measure_modules
import pytest
import torch


@pytest.fixture(autouse=True)
def _restore_torch_settings():
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_part_is_measured_in_every_variant(
    dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", "random:tiny", "--rows", "1,3", "--frames", "2", "--rounds", "1", "--threads", "1"]
    measure_modules.main([*options, "--dtype", dtype, "--layers", "1", "--json", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    cases = {result["case"]: result for result in results}
    assert {"qkv 1 rows", "gate_up 3 rows", "norm 3 rows", "decoder 1 rows", "tower 2 frames"} <= cases.keys()
    assert all(result["speedup"]["module"] == 1 for result in results)
    assert all(value > 0 for result in results for value in result["milliseconds"].values())
    assert "never" in cases["decoder 3 rows"]["milliseconds"]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == results
