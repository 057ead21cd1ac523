"""The check of the GPU's kernel says where it cannot run."""

from __future__ import annotations

import pytest

from hogwild_agents.bench.kernel import main


def test_without_a_gpu_it_says_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert main(["--device", "cpu", "--tiny"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hogwild: The kernel does not run on ")
    assert err.endswith("or TRITON_INTERPRET=1 with --device cpu --tiny.\n")
