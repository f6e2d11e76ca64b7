"""What this package adds to oodkit."""

from oodkit import DetectorSpec, hookimpl

__all__ = ["oodkit_detectors"]


@hookimpl
def oodkit_detectors() -> list[DetectorSpec]:
    """Return input complexity with each of the paper's two compressors."""
    return [
        DetectorSpec(
            name=name,
            target=f"oodkit_input_complexity.detector:{detector}",
            options="oodkit_input_complexity.options:InputComplexityOptions",
            summary=f"−log p(x) in bits, less the length of x as a {compressor} file",
            model="density",
            source="Serrà et al. 2020, arXiv:1909.11480; Choi et al. 2021, arXiv:2106.07903, appendix B",
        )
        for name, detector, compressor in (
            ("ic-png", "PngComplexity", "PNG"),
            ("ic-jp2", "Jpeg2000Complexity", "lossless JPEG 2000"),
        )
    ]
