"""A digest depends on the bytes alone, not on how they come, and never changes: files on disk hold it."""

import numpy as np

from igpt_tf.storage.digests import Digest, digest


def test_the_digest_never_changes():
    assert digest("tokens", np.arange(6, dtype="<i4").reshape(2, 3)) == "32561acb60318b70"


def test_parts_count_as_one_whole():
    array = np.arange(24, dtype="<i4").reshape(4, 6)
    assert digest("ab", array) == digest("a", b"b", array[:2], array[2:]) == digest(b"ab" + array.tobytes())
    assert digest(array.T) == digest(np.ascontiguousarray(array.T)) != digest(array)


def test_a_copy_grows_by_itself():
    first = Digest()
    first.add("a")
    second = first.copy()
    second.add("b")
    assert (str(first), str(second)) == (digest("a"), digest("ab"))
