"""What an algorithm costs on this machine: counted work, and the price of it.

The story on one page, in the order of the files:

1. `kernels`: a *kernel* is a primitive that a compiled PyTensor graph runs (`potrf`, `gemm`, one
   pass over memory, one call). It knows how many flops it does and how many bytes it touches for
   given dimensions. An algorithm is a list of `KernelCall`s; it never knows seconds.
2. `model`: the price. `seconds = c0 + sum_i c_i * phi_i(dims)`, with phi the flops, the bytes in
   and beyond the last-level cache, and a kernel's lower-order terms. The coefficients are fitted
   to measured times by non-negative least squares on the relative error, so time never falls when
   a dimension grows, and every coefficient reads as GFLOP/s, GB/s or microseconds.
3. `profile`: the models of one machine; `files` keeps it as one plain text file.
4. `fingerprint`: CPU, cores, BLAS, threads, linker. `find` looks up the profile by it; one of
   another machine is never used silently, and the shipped `generic_profile.yaml` serves until
   `autotune calibrate` has run.

The measuring itself lives in the package `calibration`. Nothing here imports PyTensor, and
SciPy, YAML and threadpoolctl load when first needed.

>>> from cost_models import call, generic_profile
>>> profile = generic_profile()
>>> work = [call("potrf", n=1000), call("potrs", n=1000, m=1)]
>>> profile.seconds_of(work, "float64") < profile.seconds(call("inv", n=1000), "float64")
True
"""

from cost_models.files import (
    ProfileError,
    data_dir,
    generic_profile,
    load_profile,
    profile_path,
    save_profile,
)
from cost_models.find import find_profile
from cost_models.fingerprint import Fingerprint, fingerprint
from cost_models.kernels import (
    KERNEL_BY_NAME,
    KERNELS,
    REFERENCE_KERNELS,
    Grid,
    Kernel,
    KernelCall,
    Term,
    call,
    grid,
)
from cost_models.model import KernelModel, fit
from cost_models.profile import Profile

__all__ = [
    "KERNELS",
    "KERNEL_BY_NAME",
    "REFERENCE_KERNELS",
    "Fingerprint",
    "Grid",
    "Kernel",
    "KernelCall",
    "KernelModel",
    "Profile",
    "ProfileError",
    "Term",
    "call",
    "data_dir",
    "find_profile",
    "fingerprint",
    "fit",
    "generic_profile",
    "grid",
    "load_profile",
    "profile_path",
    "save_profile",
]
