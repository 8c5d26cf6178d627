"""Transforms change the items of a sample for which they have options."""

import numpy as np
import pytest
import torch

from fedplan.data import Compose, Normalize, OneHot, ToTensor, Transform
from fedplan.errors import DataError


class Scale(Transform):
    def apply_to_item(self, item, *, by, plus=0):
        return item * by + plus


def test_each_item_has_its_own_options():
    assert Scale({"by": 2}, {"by": 3, "plus": 1}).apply(10, 10) == (20, 31)


def test_items_without_options_are_left_alone():
    assert Scale(None, {"by": 3}).apply(10, 10, 10) == (10, 30, 10)


def test_empty_options_stand_for_the_defaults():
    assert torch.equal(ToTensor({}).apply([1, 2])[0], torch.tensor([1, 2]))


def test_the_base_transform_changes_nothing():
    assert Transform({}, None).apply(1, 2) == (1, 2)


def test_options_for_more_items_than_there_are_is_an_error():
    with pytest.raises(DataError, match="options for 2 items, but the sample has 1"):
        Scale({"by": 1}, {"by": 2}).apply(5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bye": 2}, "Scale: .*its options are by, plus"),
        ({}, "Scale: missing a required argument: 'by'"),
        ({"by": 1, "minus": 2}, "Scale: got an unexpected keyword argument 'minus'"),
    ],
)
def test_wrong_options_are_an_error_at_once(options, message):
    with pytest.raises(DataError, match=message):
        Scale(None, options)


def test_compose_applies_one_after_the_other():
    both = Compose([Scale({"by": 2}), Scale({"by": 1, "plus": 5}, {"by": 3})])

    assert both.apply(10, 10) == (25, 30)


def test_a_composition_can_be_composed():
    double = Scale({"by": 2})

    assert Compose([Compose([double, double]), double]).apply(1) == (8,)


def test_to_tensor_reshapes_and_converts():
    pixels = np.arange(6, dtype=np.uint8)

    (image,) = ToTensor({"shape": [1, 2, 3], "dtype": "float32"}).apply(pixels)

    assert image.dtype == torch.float32
    assert image.tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_to_tensor_flattens():
    assert ToTensor({"shape": [-1]}).apply(torch.zeros(2, 3))[0].shape == (6,)


def test_to_tensor_refuses_a_shape_of_other_size():
    with pytest.raises(DataError, match=r"cannot take the shape \[4\]: it has 6 elements"):
        ToTensor({"shape": [4]}).apply(torch.zeros(2, 3))


def test_normalize_with_one_mean_takes_any_shape():
    (item,) = Normalize({"mean": [4.0], "std": [2.0]}).apply(torch.tensor([[2.0, 4.0], [6.0, 8.0]]))

    assert item.tolist() == [[-1, 0], [1, 2]]


def test_normalize_takes_each_channel_by_its_own_mean():
    image = torch.ones(3, 2, 2)

    (item,) = Normalize({"mean": [1, 0, 3], "std": [1, 2, 4]}).apply(image)

    assert item[:, 0, 0].tolist() == [0, 0.5, -0.5]
    assert item.shape == (3, 2, 2)


def test_normalize_turns_pixels_into_floats():
    (item,) = Normalize({"mean": [0], "std": [255]}).apply(np.array([0, 255], np.uint8))

    assert item.dtype == torch.float32
    assert item.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "item", "message"),
    [
        ({"mean": [1, 2], "std": [1]}, torch.zeros(2), "as many std as mean"),
        ({"mean": [], "std": []}, torch.zeros(2), "as many std as mean"),
        ({"mean": [1], "std": [0]}, torch.zeros(2), "none of them 0"),
        ({"mean": [1, 2], "std": [1, 1]}, torch.zeros(3, 2), "first dimension must be 2; it has shape"),
        ({"mean": [1, 2], "std": [1, 1]}, torch.tensor(1.0), "first dimension must be 2"),
    ],
)
def test_normalize_refuses_numbers_that_do_not_fit(options, item, message):
    with pytest.raises(DataError, match=message):
        Normalize(options).apply(item)


def test_one_hot_marks_the_label():
    (row,) = OneHot({"depth": 4}).apply(2)

    assert row.tolist() == [0, 0, 1, 0]
    assert row.dtype == torch.float32


def test_one_hot_adds_a_last_dimension():
    assert OneHot({"depth": 4}).apply(np.array([1, 3]))[0].tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


def test_one_hot_squeezes_on_request():
    assert OneHot({"depth": 4, "squeeze": True}).apply(torch.tensor([1]))[0].shape == (4,)


def test_one_hot_has_the_dtype_that_is_asked_for():
    assert OneHot({"depth": 4, "dtype": "int64"}).apply(1)[0].dtype == torch.int64


@pytest.mark.parametrize(
    ("label", "message"),
    [(4, "labels from 0 to 3; the item's run from 4"), (-1, "from -1"), (1.0, "needs integer labels")],
)
def test_one_hot_refuses_labels_that_are_not_classes(label, message):
    with pytest.raises(DataError, match=message):
        OneHot({"depth": 4}).apply(label)
