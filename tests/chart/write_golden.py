"""Writes the golden renders: ``python -m tests.chart.write_golden``. Read the difference before it is committed."""

from __future__ import annotations

from tests.chart.rendering import CI, ROOT, ci_values, text_of


def main() -> None:
    for name in CI:
        (ROOT / "tests" / "chart" / "golden" / f"{name}.yaml").write_text(text_of(ci_values(name)))


if __name__ == "__main__":
    main()
