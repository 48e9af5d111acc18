"""The page of the package on an index: the README, whose links must work there too."""

import re
import runpy
from pathlib import Path
from typing import Final

from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT: Final = Path(__file__).parents[2]
HOOK: Final = runpy.run_path(str(ROOT / "docs" / "long_description.py"))
REPOSITORY: Final = HOOK["REPOSITORY"]


def test_links_become_absolute():
    """Links to files become links to the repository, images links to the files themselves."""
    written = HOOK["absolute"]("![a](docs/a.svg) [b](docs/b.md#c) [d](#e) [f](https://g.example)")
    image, page, *rest = written.split(" ")
    assert image == f"![a]({REPOSITORY}/raw/main/docs/a.svg)"
    assert page == f"[b]({REPOSITORY}/blob/main/docs/b.md#c)"
    assert rest == ["[d](#e)", "[f](https://g.example)"]


def test_every_link_of_the_readme_works_on_an_index():
    """No link of the long description is relative, and each into the repository names a file."""
    written = ProjectMetadata(str(ROOT), PluginManager()).core.readme
    targets = re.findall(r"\]\(([^)]+)\)", written)
    assert all(target.startswith(("#", "https://")) for target in targets)
    ours = [target for target in targets if target.startswith(f"{REPOSITORY}/")]
    paths = [re.sub(r"^.*?/(blob|raw)/main/|#.*", "", target) for target in ours]
    assert paths
    assert not [path for path in paths if not (ROOT / path).exists()]
