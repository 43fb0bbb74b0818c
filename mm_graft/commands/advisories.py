"""Known security advisories of what this package stands on, and which installed or pinned versions they concern.

A short list that is read offline, no replacement for a scanner that asks a database (``pip-audit``). It holds what
concerns files from strangers: checkpoints and images. Sources: the CVE records, PyPA's advisory database, and Pillow's
release notes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

AS_OF = '2026-11-21'  # when the list was last compared with its sources


@dataclass(frozen=True)
class Advisory:
    """One advisory.

    Attributes:
        package: name of the distribution.
        affected: versions, as in requirements.
        identifier: of the CVE.
        date: of its publication; of the release that repairs it, where the record has none.
        fact: what is wrong.
        good: first version above that is not affected.
        accepted: why an affected version does no harm here; empty if it does.
    """

    package: str
    affected: str
    identifier: str
    date: str
    fact: str
    good: str
    accepted: str = ''

    def __str__(self) -> str:
        return f'{self.identifier} ({self.date}): {self.fact}; use {self.package} {self.good} or later'


ADVISORIES = (
    Advisory('torch', '<2.6.0', 'CVE-2025-32434', '2025-04-18', 'torch.load(weights_only=True) can run code', '2.6.0'),
    Advisory('torch', '<2.10.0', 'CVE-2026-24747', '2026-01-27',
             'a checkpoint can corrupt memory, and run code, in spite of weights_only=True', '2.10.0'),
    Advisory('torch', '<=2.10.0', 'CVE-2026-4538', '2026-03-22',
             'loading a pt2 file unpickles what it should not', '2.11.0'),
    Advisory('torch', '<2.13.0', 'CVE-2025-3000', '2025-03-31',
             'torch.jit.script can corrupt memory (the record names 2.6.0 alone, update services 2.13.0 as the remedy)',
             '2.13.0', accepted='nothing here calls torch.jit.script'),
    Advisory('pillow', '<10.0.1', 'CVE-2023-4863', '2023-09-15', 'its libwebp writes out of bounds', '10.0.1'),
    Advisory('pillow', '<10.2.0', 'CVE-2023-50447', '2024-01-19', 'ImageMath.eval can run code', '10.2.0'),
    Advisory('pillow', '<10.3.0', 'CVE-2024-28219', '2024-04-01', 'a buffer overflows in a copy of strings', '10.3.0'),
    Advisory('pillow', '>=11.2.0,<11.3.0', 'CVE-2025-48379', '2025-07-01', 'writing DDS overflows a buffer', '11.3.0'),
    Advisory('pillow', '>=10.3.0,<12.1.1', 'CVE-2026-25990', '2026-02-11', 'PSD images write out of bounds',
             '12.1.1'),
    Advisory('pillow', '<12.3.0', 'CVE-2026-59199', '2026-07-14', 'paste and crop write out of bounds', '12.3.0'),
    Advisory('pillow', '<13.0.0', 'CVE-2026-112403', '2026-10-19', 'a JPEG image overflows a buffer', '13.0.0'),
    Advisory('pillow', '<13.0.0', 'CVE-2026-96639', '2026-10-21',
             'images of several frames read and write out of bounds', '13.0.0'),
    *(Advisory(name, *rest) for name in ('opencv-python', 'opencv-python-headless') for rest in (
        ('<4.8.1.78', 'CVE-2023-4863', '2023-09-29', 'its libwebp writes out of bounds', '4.8.1.78'),
        ('<4.12.0', 'CVE-2025-53644', '2025-07-17', 'a JPEG image writes out of bounds', '4.12.0'))),
)


def concerning(versions: Mapping[str, str]) -> list[tuple[str, str, Advisory]]:
    """(package, version, advisory) of each that concerns one of the versions and is not accepted."""
    from packaging.specifiers import SpecifierSet
    known = {re.sub(r'[-_.]+', '-', name).lower(): (name, version) for name, version in versions.items()}
    return [(*known[advisory.package], advisory) for advisory in ADVISORIES
            if advisory.package in known and not advisory.accepted
            and SpecifierSet(advisory.affected).contains(known[advisory.package][1], prereleases=True)]


def pinned_versions(path: str | Path) -> dict[str, str]:
    """Versions that a file of requirements pins."""
    pin = re.compile(r'\s*([\w.-]+)(?:\[[^]]*\])?\s*==\s*([^\s;#]+)')
    return {match[1]: match[2] for line in Path(path).read_text().splitlines() if (match := pin.match(line))}
