"""How a command's process ends."""

import os
import subprocess
import sys

import pytest

COMMAND = """
import atexit, sys
import ganaug.__main__ as command

class Library:
    def __del__(self):
        print("torn down")

library = Library()

def main(prog_name):
    atexit.register(print, "asked to be called")
    sys.stdout.write("x" * 100_000)
    {ending}

command.main = main
command.run()
"""


@pytest.mark.parametrize(
    ("ending", "code", "told"),
    [
        ("sys.exit(0)", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(130)", 130, ""),
        ("raise ArithmeticError('unforeseen')", 1, "ArithmeticError: unforeseen"),
    ],
)
def test_all_is_written_and_called_but_no_library_is_torn_down(ending, code, told):
    ended = subprocess.run([sys.executable, "-c", COMMAND.format(ending=ending)], capture_output=True, text=True)
    assert ended.returncode == code
    assert told in ended.stderr
    assert ended.stdout == "x" * 100_000 + "asked to be called\n"


def test_a_closed_pipe_does_no_harm():
    command = [sys.executable, "-c", COMMAND.format(ending="sys.exit(2)").replace("100_000", "100")]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}  # what is left is written at the end
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered) as process:
        process.stdout.close()
        assert process.wait() == 2
