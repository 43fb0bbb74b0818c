"""One call of ``mm_graft start``, from the first look to the report; an interrupted one continues."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config

from mm_graft.commands import train
from mm_graft.commands.configs import content_root, load_config
from mm_graft.commands.run_defaults import usable_cores
from mm_graft.commands.start.configs import LEAVES, last_checkpoint, stage_config, write_config
from mm_graft.commands.start.facts import busy, look_at_folder, look_at_machine
from mm_graft.commands.start.plan import Encoder, Folder, Plan, make_plan
from mm_graft.commands.trackers import set_trackers
from mm_graft.evaluation.splits import sha256_of_list
from mm_graft.files import read_small_json, write_text
from mm_graft.host.config_text import lay_out_once
from mm_graft.image_folders import ImageList

ASKED = ('images', 'checkpoint', 'minutes', 'device', 'seed', 'tracker', 'without')
LISTED = 'listed'  # in `start.json`: the images of the plan


def start(args: argparse.Namespace, out: Path) -> None:
    """Do all of it."""
    folder, images, lines = look_at_folder(args.images)
    for line in lines:
        say(line)
    lay_out_once()
    known = earlier_call(args, out)
    from mm_graft.commands.start.given import local_weights
    weights = local_weights(args.checkpoint, out)
    if known is None:
        plan = make_plan(folder, look_at_machine(args.device), args.minutes, encoder_of(weights, folder), args.without)
        write_plan(plan, args, out, weights, images)
    elif changes := changed_images(known, images):
        say(changes)
    stages = [load_config(str(path)) for path in sorted(out.glob('[0-9]_*.py'))]
    if args.dry_run:
        say(f'configs: {out}/; run the same command without --dry-run to train')
        return
    for cfg in stages:
        train_stage(cfg)
    from mm_graft.commands.start.report import write_report
    page = write_report(stages, images, weights, (args.labels, args.val), out,
                        ' '.join(['mm_graft', *sys.argv[1:]]))
    say(f'report: {page}\nencoder: {last_checkpoint(stages[-1])}\nagain: mm_graft train {stages[-1].filename}')


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(text + '\n')
    sys.stdout.flush()


def earlier_call(args: argparse.Namespace, out: Path) -> dict | None:
    """What an earlier call into the same folder asked for, if that is what is asked for now."""
    file = out / 'start.json'
    if not file.is_file():
        return None
    earlier, asked = read_small_json(file), {name: getattr(args, name) for name in ASKED}
    changed = [name for name in ASKED if (earlier.get(name) or None) != (asked[name] or None)]
    if changed:
        differences = ', '.join(f'{name}: {earlier.get(name)} there, {asked[name]} now' for name in changed)
        raise ValueError(f'{out} holds another call ({differences}); give another --out, or remove the folder')
    say(f'continuing what is in {out}')
    return earlier


def changed_images(earlier: dict, images: ImageList) -> str | None:
    """What to say if the images are not those of the earlier call."""
    before, now = earlier.get(LISTED), names_of(images)
    if before in (None, now):
        return None
    return (f'the images are not those of the plan: {before["images"]} then, {now["images"]} now; what is trained '
            'stays, and the rest is trained on those of now, unless it stopped in the middle of an epoch of another '
            'length; another --out begins anew')


def names_of(images: ImageList) -> dict:
    """Which images they are, in short."""
    return {'images': len(images.names), 'sha256': sha256_of_list(images.names)}


def encoder_of(checkpoint: str | None, folder: Folder) -> Encoder | None:
    """Size of the encoder in a checkpoint."""
    if checkpoint is None:
        return None
    from mm_graft.commands.start.given import read_encoder
    return read_encoder(checkpoint, len(folder.channels.mean) if folder.channels else None)


def write_plan(plan: Plan, args: argparse.Namespace, out: Path, weights: str | None, images: ImageList) -> None:
    """Print the plan and write its configs; ``start.json`` last, so that half a plan is none."""
    for what, value, why in plan.reasons:
        say(f'  {what:<10} {value}  ({why})')
    slower = busy(usable_cores())
    say(f'  expected   {duration(plan.seconds)} of training on this {plan.device}' + (f'; {slower}' if slower else ''))
    out.mkdir(parents=True, exist_ok=True)
    before = weights
    for number, stage in enumerate(plan.stages, 1):
        leaf = Config.fromfile(content_root() / 'configs' / LEAVES[stage.name])
        cfg = stage_config(leaf, plan, stage, str(args.images), out / stage.name, args.seed, before)
        set_trackers(cfg, args.tracker)
        write_config(cfg, plan, stage, out / f'{number}_{stage.name}.py')
        before = str(last_checkpoint(cfg))
    asked = {name: getattr(args, name) for name in ASKED}
    write_text(out / 'start.json', json.dumps({**asked, LISTED: names_of(images), 'plan': asdict(plan)}, indent=1,
                                                 default=str))


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, rounded."""
    for unit, length in (('hours', 3600), ('minutes', 60)):
        if seconds >= 2 * length:
            return f'{seconds / length:.0f} {unit}'
    return f'{seconds:.0f} seconds'


def train_stage(cfg: Config) -> None:
    """Train one config as ``mm_graft train --resume`` does, unless it is finished."""
    name = Path(cfg.work_dir).name
    if last_checkpoint(cfg).is_file():
        say(f'{name}: finished before')
        return
    epochs = cfg.train_cfg.max_epochs
    say(f'{name}: {epochs} epoch{"s" * (epochs > 1)} → {cfg.work_dir}')
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    resume = ['--resume'] if (Path(cfg.work_dir) / 'last_checkpoint').is_file() else []
    args = parser.parse_args([cfg.filename, '--work-dir', cfg.work_dir, *resume])
    train.run(args, train.check(args))
    if not last_checkpoint(cfg).is_file():  # a signal stopped it in time
        say(f'{name}: stopped; the same command continues')
        sys.exit(0)
