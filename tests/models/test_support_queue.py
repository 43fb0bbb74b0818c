import pytest
import torch
from torch import distributed
from torch.utils._python_dispatch import TorchDispatchMode

from mm_graft.models import support_queue
from mm_graft.models.support_queue import SupportQueue, draw_below, mix
from mm_graft.process_group import leave_group
from tests.defaults import defaults
from tests.own_process import in_processes

E = torch.eye(4)


def filled(num_neighbors=1, length=4):
    """Entry i points along axis i and is of image 10 + i and class 20 + i."""
    queue = SupportQueue(length, 4, num_neighbors)
    queue.push((torch.arange(length) + 1.)[:, None] * E[torch.arange(length) % 4], 10 + torch.arange(length),
               20 + torch.arange(length))
    return queue


def test_mix_is_the_finalizer_of_splitmix64():
    # the first output of SplitMix64 with seed 0 is that of its gamma
    assert mix(torch.tensor(-0x61C8864680B583EB)).item() == 0xE220A8397B1DCDAF - 2**64


def splitmix(count, *keys):
    """In Python's integers."""
    state = 0
    for key in keys:
        state = ((state ^ key) + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state % 2**63 % count


def test_draws_are_those_of_the_definition():
    queue, ids = filled(4), [3, 2**40, 7]
    queue.seed.fill_(2**62 + 12345)
    expected = [splitmix(4, 2**62 + 12345, 4, view, image) for view in range(2) for image in ids]
    assert queue.draw(torch.tensor(ids), 2).tolist() == expected
    assert len(set(expected)) > 1


def test_draws_are_uniform_and_depend_on_every_key():
    keys = [torch.arange(60000), *(torch.tensor(value) for value in (1, 2, 3))]
    drawn = draw_below(6, *keys)
    counts = drawn.bincount(minlength=6)
    assert len(counts) == 6
    assert (counts - 10000).abs().max() < 400  # over four standard deviations
    for index in range(4):
        other = [key + (key.ndim + 1) * (place == index) for place, key in enumerate(keys)]
        assert 0.1 < (draw_below(6, *other) == drawn).float().mean() < 0.24
    assert torch.equal(draw_below(6, *keys), drawn)


def test_a_row_finds_the_entry_of_largest_cosine_as_it_is_stored():
    found = filled().find(torch.tensor([[1., 9, 0, 0], [0, 0, 1, 0.9]]), torch.tensor([0, 1]))
    assert found.positions.tolist() == [1, 2]
    assert torch.equal(found.features, torch.stack([2 * E[1], 3 * E[2]]))
    assert found.labels.tolist() == [21, 22]


def test_candidates_come_in_the_order_of_their_similarity():
    found = filled(3).find(torch.tensor([[1., 4, 2, 3]]), torch.tensor([0]))
    assert found.candidates.tolist() == [[1, 3, 2]]
    assert found.positions.item() in (1, 2, 3)


def test_the_candidate_that_is_drawn_is_taken():
    queue = filled(3)
    queue.draw = lambda ids, views: torch.tensor([2, 0])
    found = queue.find(torch.tensor([[1., 4, 2, 3], [1, 4, 2, 3]]), torch.tensor([0, 1]))
    assert found.positions.tolist() == [2, 1]
    assert torch.equal(found.features, torch.stack([3 * E[2], 2 * E[1]]))


def test_an_image_is_not_its_own_neighbor_in_training_in_no_view():
    queue = filled()
    rows, ids = torch.tensor([[1., 0.1, 0, 0], [0, 0, 1, 0.1]]), torch.tensor([10, 12])
    assert queue.find(torch.cat([rows, rows]), ids).positions.tolist() == [1, 3, 1, 3]
    assert queue.find(rows, torch.tensor([12, 10])).positions.tolist() == [0, 2]
    assert queue.eval().find(rows, ids).positions.tolist() == [0, 2]


def test_an_own_entry_is_not_picked_before_one_that_points_away_however_long_the_row_is():
    queue = SupportQueue(2, 4)
    queue.push(torch.stack([E[0], E[1] - E[0]]), torch.tensor([10, 11]))
    for scale in (1, 100):
        assert queue.find(scale * E[:1], torch.tensor([10])).positions.item() == 1


def test_its_own_entries_are_picked_where_there_are_too_few_others():
    found = filled(4).find(E[:1], torch.tensor([10]))
    assert found.candidates[0, -1] == 0


def test_new_entries_go_over_the_oldest_round_and_round():
    queue = SupportQueue(5, 4)
    assert queue.ids.tolist() == [-1] * 5
    assert queue.ages.tolist() == [0] * 5
    assert queue.ages.dtype == torch.int64
    for step in range(3):
        queue.push(torch.full((2, 4), float(step)), torch.tensor([2 * step, 2 * step + 1]))
    assert queue.ids.tolist() == [5, 1, 2, 3, 4]
    assert queue.features[:, 0].tolist() == [2, 0, 1, 1, 2]
    assert queue.ages.tolist() == [2, 6, 4, 4, 2]
    assert queue.labels.tolist() == [-1] * 5
    assert queue.pushed == 6


def test_of_more_than_it_holds_the_last_stay_where_they_would_stand():
    whole, parts = SupportQueue(3, 4), SupportQueue(3, 4)
    x, ids = torch.randn(8, 4), torch.arange(8)
    whole.push(x, ids)
    for row in range(8):
        parts.push(x[row:row + 1], ids[row:row + 1])
    assert torch.equal(whole.features, parts.features)
    assert torch.equal(whole.ids, parts.ids)


def test_a_push_that_nearly_fills_the_queue_is_stored_whole():
    queue = SupportQueue(5, 4)
    queue.push(torch.randn(4, 4), torch.arange(4))
    assert queue.ids.tolist() == [0, 1, 2, 3, -1]


class Written(TorchDispatchMode):
    """Keeps the places that are written by index."""

    def __init__(self):
        super().__init__()
        self.places = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.index_put_.default:
            self.places.append(args[1][0].tolist())
        return func(*args, **(kwargs or {}))


def test_no_place_is_written_twice_in_one_push():
    # which of two values stays is left open on a GPU
    queue = SupportQueue(3, 4)
    with Written() as written:
        queue.push(torch.randn(8, 4), torch.arange(8))
    assert len(written.places) == 4
    assert all(sorted(places) == [0, 1, 2] for places in written.places)


def test_evaluation_stores_nothing():
    queue = filled().eval()
    before = {name: value.clone() for name, value in queue.state_dict().items()}
    queue.push(E, torch.arange(4))
    assert all(torch.equal(value, before[name]) for name, value in queue.state_dict().items())


def test_draws_follow_from_the_state_and_change_with_every_push():
    queue, ids = filled(4), torch.arange(100, 200)
    first = queue.draw(ids, 2)
    assert torch.equal(queue.draw(ids, 2), first)
    assert not torch.equal(first[:100], first[100:])  # each view draws for itself
    assert torch.equal(queue.draw(ids.flip(0), 2)[:100], first[:100].flip(0))  # by image, not by row
    other = filled(4)
    assert not torch.equal(other.draw(ids, 2), first)  # another seed
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.draw(ids, 2), first)
    queue.push(E, torch.arange(4))
    assert not torch.equal(queue.draw(ids, 2), first)
    assert first.unique().tolist() == [0, 1, 2, 3]


def test_the_look_up_is_in_single_precision_under_autocast():
    torch.manual_seed(0)
    queue = SupportQueue(512, 16, 20)
    x = queue.features[:8] + 0.5 * torch.randn(8, 16)
    exact = queue.find(x, torch.arange(8)).candidates
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(queue.find(x, torch.arange(8)).candidates, exact)
        coarse = (torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(queue.features).T).topk(20).indices
    assert not torch.equal(coarse, exact)  # the test can tell
    rounded = queue.find(x.bfloat16().float(), torch.arange(8)).candidates
    assert torch.equal(queue.find(x.bfloat16(), torch.arange(8)).candidates, rounded)
    queue.push(x.bfloat16(), torch.arange(8))
    assert queue.features.dtype == torch.float32


def test_nothing_has_a_gradient():
    queue, x = filled(), torch.randn(2, 4, requires_grad=True)
    assert not queue.find(x, torch.arange(2)).features.requires_grad
    queue.push(x, torch.arange(2))
    assert not queue.features.requires_grad


@pytest.mark.parametrize('neighbors', [0, 5])
def test_more_neighbors_than_entries_are_refused(neighbors):
    with pytest.raises(ValueError, match='choose 1 to 4'):
        SupportQueue(4, 8, neighbors)
    SupportQueue(4, 8, 4)


def worker(rank, folder):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    torch.manual_seed(rank)  # each would start with a queue of its own
    queue = SupportQueue(6, 4, 2)
    x, ids = torch.arange(16.).reshape(4, 4).cos(), torch.tensor([4, 5, 6, 7])
    found = queue.find(x[2 * rank:2 * rank + 2], ids[2 * rank:2 * rank + 2])
    queue.push(x[2 * rank:2 * rank + 2], ids[2 * rank:2 * rank + 2], ids[2 * rank:2 * rank + 2])
    torch.save((found.positions, queue.state_dict()), f'{folder}/{rank}.pth')
    leave_group()


def test_two_processes_hold_the_queue_that_one_would(tmp_path):
    in_processes(worker, str(tmp_path), processes=2)
    torch.manual_seed(0)
    queue = SupportQueue(6, 4, 2)
    x, ids = torch.arange(16.).reshape(4, 4).cos(), torch.tensor([4, 5, 6, 7])
    positions = queue.find(x, ids).positions
    queue.push(x, ids, ids)
    for rank in range(2):
        found, state = torch.load(tmp_path / f'{rank}.pth')
        assert torch.equal(found, positions[2 * rank:2 * rank + 2])
        for name, value in queue.state_dict().items():
            assert torch.equal(state[name], value), name


def test_processes_agree_on_their_queues_once(monkeypatch):
    sent = []
    monkeypatch.setattr(support_queue, 'get_world_size', lambda: 2)
    monkeypatch.setattr(support_queue, 'broadcast', lambda buffer, source: sent.append((buffer, source)))
    queue = filled()
    for _ in range(2):
        queue.find(E, torch.arange(4))
    assert [(id(buffer), source) for buffer, source in sent] == [(id(buffer), 0) for buffer in queue.buffers()]


def test_the_nearest_neighbor_alone_is_asked_for_unless_told_otherwise():
    assert defaults(SupportQueue) == {'num_neighbors': 1}
