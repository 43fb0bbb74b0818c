"""Sums mutants up: ``docs/results/mutation.json``, and the table and the list of survivors in ``docs/mutation.md``."""

import difflib
import json
from collections import Counter
from pathlib import Path

import tomllib
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkResult

MARK = '<!-- below: written by `make test-mutants` -->\n'


def change(source: str, mutated: str) -> str:
    """The lines that differ, in one."""
    lines = list(difflib.ndiff(source.splitlines(), mutated.splitlines()))
    old, new = (' '.join(line[2:].strip() for line in lines if line[0] == sign) for sign in '-+')
    return f'{old} → {new}'


def summarize(source: str, everything: int, tried: list[tuple[MutationSpec, str, WorkResult]]) -> dict:
    """Numbers of one file; mutants that cannot be imported count for nothing."""
    outcomes = Counter(result.test_outcome for _, _, result in tried)
    return {
        'mutants': everything, 'tried': len(tried) - outcomes[TestOutcome.INCOMPETENT],
        'killed': outcomes[TestOutcome.KILLED],
        'survivors': sorted({f'{spec.definition_name or "module"}: {change(source, mutated)}'
                             for spec, mutated, result in tried if result.test_outcome is TestOutcome.SURVIVED})}


def write_page(root: Path, path: str, numbers: dict) -> None:
    """Put the numbers of one file into the record, and write the page anew."""
    record, page = root / 'docs' / 'results' / 'mutation.json', root / 'docs' / 'mutation.md'
    files = json.loads(record.read_text()) if record.exists() else {}
    files = {name: files[name] for name in files if (root / name).exists()} | {path: numbers}
    record.write_text(json.dumps(files, indent=1, ensure_ascii=False, sort_keys=True) + '\n')
    reasons = tomllib.loads((root / 'tests' / 'mutation' / 'accepted.toml').read_text())
    page.write_text(page.read_text().split(MARK)[0] + MARK + tables(files, reasons))


def tables(files: dict[str, dict], reasons: dict[str, dict[str, str]]) -> str:
    """The table of files, and every survivor with its reason. A mutant that is equivalent is none."""
    rows, survivors = [], []
    for name, numbers in sorted(files.items()):
        why = {mutant: reasons.get(name, {}).get(mutant, 'open') for mutant in numbers['survivors']}
        equivalent = sum(reason.startswith('equivalent') for reason in why.values())
        rows.append((f'`{name}`', numbers['mutants'], numbers['tried'] - equivalent, equivalent, len(why) - equivalent))
        survivors += [f'| `{name}` | `` {mutant} `` | {reason} |'.replace(' | None', ' \\| None')
                      for mutant, reason in why.items()]
    rows.append(('all', *(sum(column) for column in list(zip(*rows))[1:])))
    return '\n'.join([
        '| source | possible | tried | equivalent | survive | share |', '|---|---|---|---|---|---|',
        *(f'| {" | ".join(map(str, row))} | {100 * row[4] / max(row[2], 1):.1f} % |' for row in rows),
        '', '## Survivors', '', '| source | mutant | reason |', '|---|---|---|', *survivors, ''])
