"""What Linux says of the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.engines import processor

X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu sse2 {}\nbugs\t\t: none\n"


@pytest.fixture(autouse=True)
def forgotten() -> object:
    processor.processor_flags.cache_clear()
    yield
    processor.processor_flags.cache_clear()


@pytest.mark.parametrize(
    ("text", "vnni", "amx"),
    [
        (X86.format("avx512f avx512_vnni"), True, False),
        (X86.format("avx512_vnni amx_bf16 amx_int8"), True, True),
        (X86.format("avx2 avx_vnni"), False, False),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp bf16\n", False, False),
        (None, False, False),
    ],
    ids=["VNNI", "AMX", "AVX2", "ARM", "no such file"],
)
def test_flags_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, vnni: bool, amx: bool
) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(processor, "_CPUINFO", path)
    assert processor.adds_bytes_exactly() is vnni
    assert processor.multiplies_bf16_matrices() is amx
