"""Drawn pages, and crops of them among those of photos."""

import numpy as np
import pytest
import torch

from basic_train.data import CropStream, PhotoFiles, WithPages, list_photos, random_window
from basic_train.device_crops import DeviceCropStream
from basic_train.pages import KINDS, SIDE, draw_page, draw_pages


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_a_page_depends_on_its_seed_and_number_alone_and_shows_something(number):
    page = draw_page(3, number)
    assert page.shape == (SIDE, SIDE, 3) and page.dtype == np.uint8
    np.testing.assert_array_equal(page, draw_page(3, number))
    assert not np.array_equal(page, draw_page(4, number))
    edges = np.abs(np.diff(page.astype(int), axis=1)).max(2)
    assert (edges > 60).mean() > 0.002  # sharp edges, which photos have few of
    assert (edges == 0).mean() > 0.5  # on flat ground


def test_pages_are_those_of_their_numbers():
    np.testing.assert_array_equal(draw_pages(1, 3)[2], draw_page(1, 2))


@pytest.fixture
def mixed(photos):
    black = np.zeros((80, 80, 3), np.uint8)
    return WithPages(PhotoFiles(list_photos(photos), 64, 2**30), [black] * 3, 0.25)


def test_the_share_of_crops_comes_from_pages(mixed):
    batch = CropStream(mixed, 64, 400, seed=0).batch(0)
    assert 0.19 < float((batch.amax((1, 2, 3)) == 0).float().mean()) < 0.31


def test_a_stream_on_the_device_cuts_the_same_pages(mixed):
    stream = CropStream(mixed, 64, 32, seed=0)
    expected, given = stream.batch(3), DeviceCropStream(stream, torch.device("cpu")).batch(3)
    assert (expected.amax((1, 2, 3)) == 0).equal(given.amax((1, 2, 3)) == 0)
    assert float((expected - given).abs().max()) <= 1 / 255 + 1e-6


def test_every_other_crop_of_a_page_is_as_drawn():
    sides = [random_window(500, 500, 64, np.random.default_rng(seed), False).side for seed in range(200)]
    assert 70 < sides.count(64) < 130 and max(sides) > 90
    assert [random_window(500, 500, 64, np.random.default_rng(seed)).side for seed in range(200)].count(64) < 10
