import pytest

from mm_graft.datasets.hashtags import extract_hashtags, normalize_tag, read_synsets, read_vocabulary


def test_hashtags_are_words_behind_a_hash_that_begins_a_word():
    text = 'My #Dog at the #beach2023,#sea! mail#box http://a.b/c#top &#39; #1 #_ #été ＃ＤＯＧ #dog'
    assert extract_hashtags(text) == ['dog', 'beach2023', 'sea', 'été']


def test_names_and_tags_of_the_same_words_are_the_same():
    assert normalize_tag('Golden Retriever') == normalize_tag('golden_retriever') == normalize_tag('#goldenRetriever')
    assert normalize_tag('T-shirt') == 'tshirt'


def test_every_line_of_a_vocabulary_is_a_label(tmp_path):
    (tmp_path / 'tags.txt').write_text('dog\n\nAnkle boot\n')
    labels = read_vocabulary(tmp_path / 'tags.txt')
    assert labels.names == ('dog', 'Ankle boot')
    assert labels.labels_of(['ankleboot', 'love', 'dog', 'DOG']) == ([0, 1], ['love'])


def test_lemmas_of_a_synset_are_one_label_and_a_homonym_means_every_synset(tmp_path):
    (tmp_path / 'synsets.txt').write_text('n1 crane, derrick\nn2\tcrane\nn3 golden retriever\n')
    labels = read_synsets(tmp_path / 'synsets.txt')
    assert labels.names == ('n1', 'n2', 'n3')
    assert labels.labels_of(['derrick']) == ([0], [])
    assert labels.labels_of(['goldenretriever', 'crane']) == ([0, 1, 2], [])
    (tmp_path / 'synsets.txt').write_text('n1 crane, !!, \n')
    assert read_synsets(tmp_path / 'synsets.txt').labels_of(['!!', '']) == ([], ['!!', ''])  # no lemma, but signs


@pytest.mark.parametrize(('text', 'read', 'message'), [
    ('dog\nDog\n', read_vocabulary, "duplicate tag 'dog'"),
    ('', read_vocabulary, 'no label'),
    ('!!\n', read_vocabulary, 'no tag'),
    ('n0 bird\nn1 dog\nn1 cat\n', read_synsets, "duplicate label 'n1'"),
    ('n1\n', read_synsets, 'no tag that means it'),
])
def test_a_file_that_means_nothing_clear_is_refused(tmp_path, text, read, message):
    (tmp_path / 'labels.txt').write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / 'labels.txt')
