"""How a command's process ends."""

import os
import signal
import subprocess
import sys

import pytest

COMMAND = """
import atexit, sys
import ganaug.__main__ as command
import ganaug.cli

class Library:
    def __del__(self):
        print("torn down")

library = Library()

def main(prog_name):
    atexit.register(print, "asked to be called")
    sys.stdout.write("x" * 100_000)
    {ending}

ganaug.cli.main = main
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


EARLY = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *given):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

import ganaug.__main__ as command
sys.meta_path.insert(0, Interrupting())
if sys.argv.pop() == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
command.run()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("module", ["click", "ganaug.cli", "pydantic", "ganaug.options"])
def test_ctrl_c_before_the_command_has_begun(module):
    command = [sys.executable, "-c", EARLY, module]
    ended = subprocess.run([*command, "heard"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (128 + signal.SIGINT, "")
    assert ended.stderr == "stopped by SIGINT.\n"
    assert (
        subprocess.run([*command, "ignored"], capture_output=True).returncode == 2
    )  # as the shell has it for `command &`
