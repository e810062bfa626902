"""What the list says of the named sets is what they are."""

import subprocess
import sys

from surefoot.data.load import load
from surefoot.data.named import NAMED


def test_digits_are_as_described():
    told, data = NAMED["digits"], load("digits", validation=0)
    assert (told.train, told.test) == (len(data.train), len(data.test))
    assert (told.shape, told.classes) == (data.input_shape, data.outputs)
    assert told.is_here()


def test_cifar10_is_here_once_it_is_in_the_cache(small_cifar, cache):
    assert not NAMED["cifar10"].is_here()
    cache.mkdir()
    small_cifar.rename(cache / small_cifar.name)
    assert NAMED["cifar10"].is_here()


def test_the_list_needs_no_torch():
    code = "import sys, surefoot.cli.data, surefoot.data.named; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
