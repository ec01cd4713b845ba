"""Label tables of model-spec §3.1 on a 4x6 map, stage counts and tiles."""

import numpy as np
import pytest

from basic_train import grouping
from basic_train.grouping import TILES, Grouping, labels, relabel_dense, tiled

H, W = 4, 6
EVEN, ODD = [0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0]

#: One channel group: the label of every position.
TABLE = {
    "none": [[0] * 6] * 4,
    "scanline": [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10, 11],
        [12, 13, 14, 15, 16, 17],
        [18, 19, 20, 21, 22, 23],
    ],
    "zigzag": [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7], [3, 4, 5, 6, 7, 8]],
    "checkerboard": [EVEN, ODD, EVEN, ODD],
    "half-checkerboard": [[1] * 6, [1, 0, 1, 0, 1, 0], [1] * 6, [1, 0, 1, 0, 1, 0]],
    "halfinv-checkerboard": [[0] * 6, [0, 1, 0, 1, 0, 1], [0] * 6, [0, 1, 0, 1, 0, 1]],
    "quarter-checkerboard": [[1] * 6, [1, 1, 1, 0, 1, 1], [1] * 6, [1, 0, 1, 1, 1, 0]],
    "raster2x2": [[0, 1, 0, 1, 0, 1], [2, 3, 2, 3, 2, 3], [0, 1, 0, 1, 0, 1], [2, 3, 2, 3, 2, 3]],
}


#: Channel groups of methods that are not for twelve.
GROUPS = {"elic320": 20}


@pytest.mark.parametrize("name", TABLE)
def test_every_channel_group_has_the_labels_of_the_table(name):
    np.testing.assert_array_equal(labels(name, 3, H, W), np.broadcast_to(TABLE[name], (3, H, W)))


def test_interlace_checkerboard_swaps_colours_between_groups():
    first = [ODD, EVEN, ODD, EVEN]  # even groups: 1 where row and column have equal parity
    second = [EVEN, ODD, EVEN, ODD]
    np.testing.assert_array_equal(labels("interlace-checkerboard", 3, H, W), [first, second, first])


def test_channelwise_methods_count_group_after_group():
    board = np.array(TABLE["checkerboard"])
    scan = np.array(TABLE["scanline"])
    zero = np.zeros((H, W), int)
    np.testing.assert_array_equal(labels("channelwise", 3, H, W), [zero, zero + 1, zero + 2])
    np.testing.assert_array_equal(labels("channelwise-checkerboard", 3, H, W), [board, board + 2, board + 4])
    np.testing.assert_array_equal(labels("channelwise-scanline", 2, H, W), [scan, scan + 24])


def test_channelwise_g10_merges_the_last_three_of_twelve_groups():
    found = labels("channelwise-g10", 12, H, W)
    np.testing.assert_array_equal(found[:, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9])
    assert (found == found[:, :1, :1]).all()
    assert tiled("channelwise-g10", 12).stages == 10


def test_elic_splits_twelve_groups_in_five_checkerboards():
    found = labels("elic", 12, H, W)
    np.testing.assert_array_equal(found[:, 0, 0], [0, 2, 4, 4, 6, 6, 6, 6, 8, 8, 8, 8])
    np.testing.assert_array_equal(found - found[:, :1, :1], np.broadcast_to(TABLE["checkerboard"], (12, H, W)))
    assert tiled("elic", 12).stages == 10


def test_elic_of_320_channels_has_splits_of_16_16_32_64_and_192():
    found = labels("elic320", 20, H, W)
    assert np.bincount(found[:, 0, 0] // 2).tolist() == [1, 1, 2, 4, 12]
    np.testing.assert_array_equal(found[-1], np.array(TABLE["checkerboard"]) + 8)


@pytest.mark.parametrize("name", ["elic", "channelwise-g10"])
def test_methods_made_for_twelve_groups_say_so(name):
    with pytest.raises(ValueError, match="defined for 12 channel groups, not 4"):
        labels(name, 4, H, W)


@pytest.mark.parametrize(
    ("name", "stages"),
    [("none", 1), ("checkerboard", 2), ("raster2x2", 4), ("channelwise", 4), ("channelwise-checkerboard", 8),
     ("group-diagonal", 16), ("interlace-checkerboard", 2), ("quarter-checkerboard", 2)],
)  # fmt: skip
def test_stage_counts_with_four_groups(name, stages):
    assert tiled(name, 4).stages == stages


def test_random_labels_keep_their_ranges():
    found = grouping.random(3, H, W, stages=5, seed=1)
    assert found.shape == (3, H, W) and found.min() >= 0 and found.max() < 5
    assert grouping.random(3, 40, 60, seed=1).max() > 3 * 40 * 60 // 2
    blocks = grouping.channelwise_random(3, H, W, seed=1)
    assert ((blocks // (H * W)) == np.arange(3)[:, None, None]).all()


def test_unknown_and_non_repeating_names():
    with pytest.raises(ValueError, match="unknown grouping 'spiral'; known: none"):
        labels("spiral", 1, H, W)
    with pytest.raises(ValueError, match="does not repeat with a tile"):
        tiled("scanline", 1)


def test_relabel_dense_keeps_the_order_and_closes_the_gaps():
    np.testing.assert_array_equal(relabel_dense([[7, 2], [7, 31]]), [[1, 0], [1, 2]])


@pytest.mark.parametrize("name", TILES)
def test_tiles_repeat_to_the_full_map(name):
    groups = GROUPS.get(name, 12)
    np.testing.assert_array_equal(tiled(name, groups).labels(5, 7), labels(name, groups, 5, 7))


@pytest.mark.parametrize("name", TILES)
def test_slots_of_all_stages_are_each_element_of_the_tile_once(name):
    grouping = tiled(name, GROUPS.get(name, 12))
    slots = [slot for stage in range(grouping.stages) for slot in grouping.slots(stage)]
    assert sorted(slots) == [tuple(s) for s in np.argwhere(np.ones_like(grouping.tile))]


def test_a_learned_tile_is_dense_read_only_and_square():
    learned = Grouping("learned", np.array([[[5, 0], [9, 5]]]))
    np.testing.assert_array_equal(learned.tile, [[[1, 0], [2, 1]]])
    with pytest.raises(ValueError, match="read-only"):
        learned.tile[0, 0, 0] = 3
    with pytest.raises(ValueError, match="tile is"):
        Grouping("flat", np.zeros((1, 2, 3), int))
