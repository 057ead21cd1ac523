"""First run: what the command says on stderr when kernels are compiled, which any test may be."""

from __future__ import annotations


def unprompted(stderr: str) -> str:
    """Return what stderr says but for kernels that are compiled, on the first run of a machine."""
    return "".join(
        line for line in stderr.splitlines(keepends=True) if "compiling kernels" not in line
    )
