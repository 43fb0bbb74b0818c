"""Mutation testing of the mathematics: cosmic-ray makes the mutants, a fork with everything imported runs their tests.

``python tests/mutation [files] [--sample N]``. A mutant lives in memory; no source is written. It is tried on those
tests of its mirrored file that reach its lines, the fastest first. Results are kept in ``work_dirs/mutation``, in
databases that ``cr-report`` and ``cr-html`` read, and summed up in ``docs/results/mutation.json`` and
``docs/mutation.md``.
"""

import argparse
import ast
import random
import sys
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import OPERATOR_PROVIDERS, get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult
from forks import FORK, Runner, import_hosts
from operators import KEPT, OPERATORS
from report import summarize, write_page

from mm_graft.progress import Progress

ROOT = Path(__file__).parents[2]
STORE = ROOT / 'work_dirs' / 'mutation'
OPERATOR_PROVIDERS['core'] = {name: get_operator(f'core/{name}') for name in OPERATOR_PROVIDERS['core']
                              if name.startswith(KEPT)}
OPERATOR_PROVIDERS['tensors'] = OPERATORS
# what is mutated, the most important first; several tests where the mirrored one shares the work
SOURCES = (
    'models/losses', 'models/targets', 'models/masks', 'models/heads', 'models/selfsup', 'models',
    'host/step_watch.py', 'depth.py', 'equations.py', 'gradients.py', 'encoders.py',
    'engine/optimizers/graft_constructor.py',
    'engine/optimizers/custom_keys.py', 'engine/schedulers', 'engine/freezing', 'engine/hooks/weight_anchor.py',
    'engine/hooks/gram_anchor.py', 'models/necks', 'models/backbones', 'models/data_preprocessors',
    'datasets/transforms', 'datasets/hashtags.py', 'datasets/rare_tag_sampler.py', 'datasets/tag_index.py',
    'checkpoints/grids.py', 'checkpoints/resize.py', 'checkpoints/refiner.py', 'checkpoints/localmim.py',
    'evaluation/knn.py', 'evaluation/fewshot.py', 'evaluation/linear_probe.py', 'evaluation/linear_dinov2.py',
    'evaluation/label_free.py', 'evaluation/features.py', 'evaluation/online_probe.py',
    'evaluation/attentive_fusion.py', 'evaluation/layer_features.py', 'evaluation/splits.py', 'evaluation/frozen.py',
    'evaluation/layers.py', 'evaluation/linear_sweep.py', 'evaluation/zero_shot.py', 'evaluation/block_cut.py')
FURTHER_TESTS = {
    'mm_graft/engine/optimizers/graft_constructor.py': [
        'tests/engine/optimizers/test_frozen_stages.py', 'tests/engine/optimizers/test_kinds.py'],
    'mm_graft/models/data_preprocessors/two_views.py': ['tests/test_recipes.py'],
}


def sources() -> list[Path]:
    found = [path for name in SOURCES
             for path in (sorted((ROOT / 'mm_graft' / name).glob('*.py')) or [ROOT / 'mm_graft' / name])]
    return [path.relative_to(ROOT) for path in found if path.name != '__init__.py']


def tests_of(path: Path) -> list[str]:
    mirrored = Path('tests', *path.parts[1:-1], f'test_{path.name}')
    return [str(mirrored), *FURTHER_TESTS.get(str(path), [])]


def unmutated_lines(source: str) -> list[tuple[int, int]]:
    """Spans (line, column) … of annotations and messages: nothing is computed there."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        parts = [getattr(node, name, None) for name in ('annotation', 'returns')]
        message = isinstance(node, ast.Raise | ast.JoinedStr) or (
            isinstance(node, ast.Call) and ast.unparse(node.func).endswith(('print_log', '.warn', '.info', '.warning')))
        spans += [((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset))
                  for part in [*parts, node if message else None] if part is not None]
    return spans


def candidates(db: WorkDB, source: str, seed: int) -> list[tuple[str, MutationSpec]]:
    """(job, mutation) of what computes something, in an order that the seed alone decides."""
    spans = unmutated_lines(source)
    items = [(item.job_id, item.mutations[0]) for item in db.work_items]
    items = [(job, spec) for job, spec in items if not any(
        start <= tuple(spec.start_pos) and tuple(spec.end_pos) <= end for start, end in spans)]
    items.sort(key=lambda item: (item[1].operator_name, item[1].occurrence))
    random.Random(seed).shuffle(items)
    return items


def mutants(items: list[tuple[str, MutationSpec]], source: str) -> Iterator[tuple[str, MutationSpec, str]]:
    """(job, mutation, mutated source), each different code once."""
    seen = {ast.dump(ast.parse(source))}
    for job, spec in items:
        mutated = mutate_code(source, get_operator(spec.operator_name)(), spec.occurrence)
        try:
            code = ast.dump(ast.parse(mutated))
        except SyntaxError:
            continue
        if code not in seen and mutated.count('register_module') == source.count('register_module'):
            seen.add(code)
            yield job, spec, mutated


def run_file(path: Path, args: argparse.Namespace) -> None:
    """Try what was not tried yet of one file, and write the page."""
    source = (ROOT / path).read_text()
    state = sha256((source + Path(__file__).with_name('operators.py').read_text()).encode()).hexdigest()[:12]
    store = STORE / f'{".".join(path.with_suffix("").parts)}.{state}.sqlite'
    store.parent.mkdir(parents=True, exist_ok=True)
    new = not store.exists()
    with use_db(store) as db:
        if new:
            init([path], db, {})
        items = candidates(db, source, args.seed)
        chosen = list(islice(mutants(items, source), args.sample))
        done = {job: result for job, result in db.results
                if result.test_outcome is not TestOutcome.SURVIVED or not args.again}
        todo = [mutant for mutant in chosen if mutant[0] not in done]
        if args.only and any(job not in dict(db.results) for job, _, _ in todo):
            raise ValueError(f'--only {args.only!r} is for survivors, but some mutants of {path} were not tried yet')
        if todo:
            runner = Runner(ROOT, path, [*tests_of(path), *(['-k', args.only] if args.only else [])])
            for job, spec, mutated in Progress(todo, unit='mutant'):
                outcome = runner.outcome(mutated, range(spec.start_pos[0], spec.end_pos[0] + 1))
                done[job] = WorkResult(WorkerOutcome.NORMAL, test_outcome=outcome)
                db.set_result(job, done[job])
        write_page(ROOT, str(path), summarize(
            source, len(items), [(spec, mutated, done[job]) for job, spec, mutated in chosen]))


def main() -> None:
    parser = argparse.ArgumentParser(prog='python tests/mutation', description='Mutation tests of the mathematics.')
    parser.add_argument('files', nargs='*', type=Path, help='sources, as mm_graft/depth.py; all by default')
    parser.add_argument('--sample', type=int, help='at most so many mutants a file; all by default')
    parser.add_argument('--seed', type=int, default=0, help='of the sample')
    parser.add_argument('--again', action='store_true', help='try survivors of an earlier run again')
    parser.add_argument('--only', help='of the tests those whose names this fits, as `-k` of pytest; for new tests')
    args = parser.parse_args()
    import_hosts()
    sys.path.insert(0, str(ROOT))
    files, failed = args.files or sources(), []
    for number, path in enumerate(files, 1):
        print(f'{number} of {len(files)}: {path}', flush=True)
        process = FORK.Process(target=run_file, args=(path, args))  # each file needs all the others imported afresh
        process.start()
        process.join()
        failed += [str(path)] if process.exitcode else []
    if failed:
        sys.exit(f'not finished: {", ".join(failed)}')


if __name__ == '__main__':
    main()
