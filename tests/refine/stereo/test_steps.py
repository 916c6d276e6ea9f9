"""The parts of stereo against plain twins."""

import numpy as np
import torch

from manyview.refine.stereo.cost import box_sum, mean_of_best
from manyview.refine.stereo.smoothing import cheapest_label, smooth_costs


def test_box_sum_equals_a_convolution() -> None:
    maps = torch.rand(2, 9, 13)
    kernel = torch.ones(1, 1, 5, 5)
    expected = torch.nn.functional.conv2d(maps[:, None], kernel, padding=2)[:, 0]
    torch.testing.assert_close(box_sum(maps, 5), expected)


def test_mean_of_best_equals_sorting() -> None:
    costs = torch.rand(6, 8, 5)
    for best in (1, 3, 6, 9):
        torch.testing.assert_close(mean_of_best(costs, best), costs.sort(0).values[:best].mean(0))


def test_smoothing_equals_paths_followed_one_by_one() -> None:
    """A grey image, so that a jump costs the same everywhere."""
    height, width, labels = 4, 5, 6
    volume = torch.rand(height, width, labels)
    image = torch.full((height, width), 0.5)
    step, jump = 0.06, 0.66
    change = np.abs(np.arange(labels)[:, None] - np.arange(labels))
    penalty = np.where(change == 0, 0.0, np.where(change == 1, step, jump))
    expected = np.zeros(volume.shape)
    for down, right in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]:
        paths: dict[tuple[int, int], np.ndarray] = {}
        for row in range(height)[:: down or 1]:
            for column in range(width)[:: right or 1]:
                # Beyond the side edges a diagonal comes from the pixel at the edge.
                before = (row - down, min(max(column - right, 0), width - 1) if down else column - right)
                own = volume[row, column].numpy().astype(float)
                if before in paths:
                    came = paths[before]
                    own = own + (came[None] + penalty).min(1) - came.min()
                paths[row, column] = own
                expected[row, column] += own
    torch.testing.assert_close(
        smooth_costs(volume, image).double(), torch.from_numpy(expected), atol=1e-5, rtol=0
    )


def test_the_least_of_a_parabola_between_labels() -> None:
    places = torch.tensor([[3.2, 0.0, 5.0]])
    volume = (torch.arange(6.0) - places[..., None]) ** 2
    between, whole = cheapest_label(volume)
    torch.testing.assert_close(between, places)
    assert whole.tolist() == [[3, 0, 5]]
