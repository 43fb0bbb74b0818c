from mmengine.config import Config
from yapf.yapflib import yapf_api

from mm_graft.host.config_text import MOST, lay_out_once, remembering


def test_a_text_is_laid_out_once_for_each_setting_and_forgotten_in_time():
    asked = []

    def lay_out(text, **settings):
        asked.append(text)
        return text.upper(), bool(settings)

    remembered = remembering(lay_out)
    assert [remembered('a'), remembered('a'), remembered('a', verify=True)] == [('A', False), ('A', False), ('A', True)]
    assert asked == ['a', 'a']
    for text in map(str, range(MOST)):
        remembered(text)
    assert remembered('a') == ('A', False)
    assert asked.count('a') == 3


def test_configs_of_the_host_are_laid_out_by_it_and_read_as_before(monkeypatch):
    """Fails if MMEngine takes its layout from elsewhere."""
    cfg = Config(dict(model=dict(type='MAE', depth=3), lr=1e-3))
    expected, calls, original = cfg.pretty_text, [], yapf_api.FormatCode

    def counted(text, **settings):
        calls.append(text)
        return original(text, **settings)

    monkeypatch.setattr(yapf_api, 'FormatCode', counted)
    lay_out_once()
    lay_out_once()
    assert cfg.pretty_text == cfg.copy().pretty_text == expected
    assert len(calls) == 1
    cfg.lr = 2e-3
    assert '0.002' in cfg.pretty_text
