"""Make or repair `.venv` with the locked dependencies and this project, editable.

Run by the Makefile with any Python >= 3.12; needs only the standard library. The stamp holds a digest of
what was installed, so a second run with the same files does nothing. A lock on pyproject.toml makes
concurrent runs wait for each other.
"""

import fcntl
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENV = ROOT / ".venv"
PYTHON = ENV / "bin" / "python"
STAMP = ENV / ".stamp"
INPUTS = (ROOT / "requirements.lock", ROOT / "pyproject.toml")
PROBE = "import sys, pip; sys.exit(sys.version_info < (3, 12))"


def digest() -> str:
    """SHA-256 of the inputs and of the place, because an editable install names it."""
    parts = [str(ROOT).encode(), *(path.read_bytes() for path in INPUTS)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def usable() -> bool:
    """Whether `.venv` holds a Python >= 3.12 with pip that starts."""
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", PROBE], capture_output=True).returncode == 0


def create() -> None:
    """Build `.venv` anew from the running Python."""
    if Path(sys.prefix).resolve() == ENV.resolve():
        sys.exit(f"{ENV} is the running environment and has no pip. Remove it and run make again.")
    print(f"creating {ENV} from {sys.executable} ({sys.version.split()[0]})", flush=True)
    venv.create(ENV, clear=True, with_pip=True, symlinks=True)


def pip_install(*arguments: str) -> None:
    subprocess.run(
        [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments],
        cwd=ROOT,
        check=True,
    )


def main() -> None:
    wanted = digest()
    if usable() and STAMP.exists() and STAMP.read_text() == wanted:
        STAMP.touch()
        return
    if not usable():
        create()
    STAMP.unlink(missing_ok=True)
    print("installing requirements.lock into .venv", flush=True)
    pip_install("-r", str(INPUTS[0]))
    pip_install("--no-deps", "--no-build-isolation", "--editable", ".")
    STAMP.write_text(wanted)


if __name__ == "__main__":
    with INPUTS[1].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            main()
        except subprocess.CalledProcessError as error:
            sys.exit(f"setting up .venv failed: {' '.join(map(str, error.cmd))} returned {error.returncode}.")
