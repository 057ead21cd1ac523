"""Threads are no more than the quota of a container allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hogwild_agents.cli.cores import fewer


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("limit", "threads"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("20000 100000", 1),
        ("max 100000", None),
        ("800000 100000", None),
        ("900000 100000", None),
        ("", None),
    ],
)
def test_a_quota_of_the_second_version_counts_if_it_is_less(
    tmp_path: Path, limit: str, threads: int | None
) -> None:
    groups = write(tmp_path / "groups", "0::/pod/one\n")
    write(tmp_path / "mount/pod/one/cpu.max", limit)
    assert fewer(groups, tmp_path / "mount") == threads


def test_the_least_of_a_group_and_those_around_it_counts(tmp_path: Path) -> None:
    groups = write(tmp_path / "groups", "0::/pod/one\n")
    write(tmp_path / "mount/pod/one/cpu.max", "600000 100000")
    write(tmp_path / "mount/pod/cpu.max", "300000 100000")
    write(tmp_path / "cpu.max", "100000 100000")  # not a group: above the mount
    assert fewer(groups, tmp_path / "mount") == 3


@pytest.mark.parametrize(("quota", "threads"), [("400000", 4), ("-1", None)])
def test_a_quota_of_the_first_version_counts(
    tmp_path: Path, quota: str, threads: int | None
) -> None:
    groups = write(tmp_path / "groups", "4:memory:/pod\n3:cpu,cpuacct:/pod\n0::/\n")
    write(tmp_path / "mount/cpu,cpuacct/pod/cpu.cfs_quota_us", quota)
    write(tmp_path / "mount/cpu,cpuacct/pod/cpu.cfs_period_us", "100000")
    assert fewer(groups, tmp_path / "mount") == threads


def test_where_nothing_is_told_nothing_is_limited(tmp_path: Path) -> None:
    assert fewer(tmp_path / "groups", tmp_path) is None
    assert fewer(write(tmp_path / "groups", "0::/\n"), tmp_path) is None
