from concurrent.futures import ThreadPoolExecutor

import numpy as np

from data.arrays import open_picture, write_picture
from tests.samples import noise


def test_many_threads_may_open_arrays(tmp_path):
    write_picture(tmp_path / "a.npy", noise(0, 5, 4, 3))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(open_picture, [tmp_path / "a.npy"] * 2000))
    assert len(found) == 2000
    np.testing.assert_array_equal(found[-1], noise(0, 5, 4, 3))
