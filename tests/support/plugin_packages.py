"""Plugin packages in a folder on PYTHONPATH."""

from pathlib import Path


def a_plugin(folder: Path, name: str, source: str) -> None:
    """Write a package with a sink of the same name."""
    info = folder / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(source, "utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", "utf-8")
    (info / "entry_points.txt").write_text(f"[sutro_poller.sinks]\n{name} = {name}:KIND\n", "utf-8")
