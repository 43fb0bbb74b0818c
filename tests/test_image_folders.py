import os

import pytest

from mm_graft.image_files import EXTENSIONS
from mm_graft.image_folders import labeled_list, list_images, listed_images


def put(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_every_ending_that_is_decoded_is_seen_in_any_case(tmp_path):
    names = [f'deep/er/{number}{ending}' for number, ending in enumerate(EXTENSIONS)] + ['A.JPG', 'b.Jpeg', 'c.WebP']
    assert list_images(put(tmp_path, *names)).names == sorted(names)


def test_a_list_names_images_below_its_folder_and_elsewhere_and_none_that_is_missing(tmp_path):
    put(tmp_path, 'lists/a b.png', 'lists/deep/c.jpg', 'other/d.png')
    listed = tmp_path / 'lists' / 'some.txt'
    listed.write_text(f'deep/c.jpg\na b.png\n{tmp_path}/other/d.png\n')
    images = listed_images(listed)
    assert images.root == str(tmp_path / 'lists')
    assert images.names == ['deep/c.jpg', 'a b.png', f'{tmp_path}/other/d.png']
    for line in ('missing.png', '', '.'):
        listed.write_text(f'a b.png\n{line}\n')
        with pytest.raises(ValueError, match=rf"line 2 of .*some\.txt names no file: '{line}'"):
            listed_images(listed)


def test_classes_are_numbered_by_name_and_images_sorted_within_them(tmp_path):
    images = list_images(put(tmp_path, 'b/2.png', 'b/10.png', 'a-b/1.jpg', 'a/x/1.gif', 'a/0.webp'), labeled=True)
    assert images.classes == ('a', 'a-b', 'b')
    assert list(zip(images.names, images.labels)) == [
        ('a/0.webp', 0), ('a/x/1.gif', 0), ('a-b/1.jpg', 1), ('b/10.png', 2), ('b/2.png', 2)]


def test_what_is_no_class_is_not_numbered_and_is_named(tmp_path):
    put(tmp_path, 'a/1.png', 'c/1.png', 'b/notes.txt', '.ipynb_checkpoints/1.png', '__MACOSX/a/._1.png')
    (tmp_path / 'empty').mkdir()
    images = list_images(tmp_path, labeled=True)
    assert (images.classes, images.labels, images.empty) == (('a', 'c'), [0, 1], ('b', 'empty'))
    assert 'without an image, so no classes: b, empty' in str(images)
    assert '2 images of 2 classes' in str(images)


def test_labels_follow_the_names_that_are_asked_for(tmp_path):
    put(tmp_path, 'a/1.png', 'c/1.png', 'd/1.png')
    images = list_images(tmp_path, labeled=True, classes=['c', 'b', 'a'])
    assert list(zip(images.names, images.labels)) == [('a/1.png', 2), ('c/1.png', 0)]
    assert (images.classes, images.missing) == (('c', 'b', 'a'), ('b', ))
    assert 'classes without an image here: b' in str(images)
    assert '1 folders of other classes' in str(images)
    with pytest.raises(ValueError, match='duplicate class'):
        list_images(tmp_path, labeled=True, classes=['a', 'a'])


def test_what_is_passed_over_is_counted_by_reason_and_ending(tmp_path):
    put(tmp_path, 'a/1.png', 'a/2.heic', 'a/3.heic', 'a/notes.txt', 'a/.DS_Store', 'a/._1.png', 'a/Thumbs.db',
        'a/.hidden/1.png', 'top.png')
    os.mkfifo(tmp_path / 'a/pipe.png')
    (tmp_path / 'a/broken.jpg').symlink_to('nowhere.jpg')
    images = list_images(tmp_path, labeled=True)
    assert images.names == ['a/1.png']
    assert dict(images.passed_over) == {
        ('without the ending of an image format that is read', '.heic'): 2,
        ('without the ending of an image format that is read', '.txt'): 1,
        ('without the ending of an image format that is read', '.db'): 1,
        ('hidden', ''): 3, ('outside the folders of classes', '.png'): 1,
        ('no regular files or broken links', '.png'): 1, ('no regular files or broken links', '.jpg'): 1}
    said = str(images)
    for part in ('1 images of 1 classes', '4 without the ending', '.heic 2, .db 1, .txt 1', '3 hidden',
                 '1 outside the folders of classes (.png 1)', '2 no regular files or broken links'):
        assert part in said


def test_links_are_followed_and_circles_are_left(tmp_path):
    put(tmp_path, 'real/a/1.png')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/a').symlink_to(tmp_path / 'real/a')
    (tmp_path / 'real/a/up').symlink_to(tmp_path / 'data')
    (tmp_path / 'data/a/here').symlink_to(tmp_path / 'real/a')
    images = list_images(tmp_path / 'data')
    assert 'a/1.png' in images.names
    assert len(images.names) < 5
    assert any(reason == 'links to a folder above' for reason, _ in images.passed_over)


def test_a_link_to_the_folder_of_the_classes_adds_no_images_to_its_class(tmp_path):
    put(tmp_path, 'a/1.png', 'b/1.png')
    (tmp_path / 'a/up').symlink_to(tmp_path)
    images = list_images(tmp_path, labeled=True)
    assert (images.names, images.labels) == (['a/1.png', 'b/1.png'], [0, 1])
    assert images.passed_over['links to a folder above', ''] == 1


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'names no image'), ('a.png 0\n\nb.png 1\n', "line 2 of .* is ''"), ('a.png 0\nb.png\t1\n', 'line 2 of'),
    ('a.png\n', r'line 1 of .*a space and the number of its class'), ('a.png -1\n', 'from 0 on')])
def test_a_line_without_path_and_number_is_named(tmp_path, text, message):
    (tmp_path / 'list.txt').write_text(text)
    with pytest.raises(ValueError, match=message):
        labeled_list(tmp_path / 'list.txt')


def test_narrower_endings_and_missing_folders(tmp_path):
    images = list_images(put(tmp_path, 'a.png', 'b.jpg'), extensions=['.PNG'])
    assert images.names == ['a.png']
    with pytest.raises(FileNotFoundError, match='nowhere is no folder'):
        list_images(tmp_path / 'nowhere')


def test_splits_are_no_classes(tmp_path):
    for split in ('train', 'val'):
        (tmp_path / split / 'cat').mkdir(parents=True)
        (tmp_path / split / 'cat/a.png').write_bytes(b'x')
    with pytest.raises(ValueError, match=r'has the folders train, val, which are no classes; give .*/train'):
        list_images(tmp_path, labeled=True)
    assert len(list_images(tmp_path).names) == 2
    assert list_images(tmp_path / 'train', labeled=True).classes == ('cat', )
    (tmp_path / 'train').rename(tmp_path / 'tram')
    assert list_images(tmp_path, labeled=True).classes == ('tram', 'val')
