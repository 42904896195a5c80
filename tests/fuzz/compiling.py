"""Plain PyTensor's functions and autotune's, through each door."""

import warnings

import numpy as np
import pytensor
from pytensor.compile.mode import Mode, get_mode
from pytensor.link.vm import VMLinker

import autotune
from fuzz.generator import Skip
from fuzz.watching import AFTER_THE_PASS, Hang, NoCycle

RAW = Mode(linker="py", optimizer=None)
LIGHT = ("specialize", "stabilize", "uncanonicalize", "scan", "BlasOpt")


def base_mode(linker, inplace=False, rewrites="full"):
    """The mode that both functions start from; ``rewrites``: "full", "light" (fast) or "fast_compile"."""
    if linker == "numba":
        return get_mode("NUMBA")
    chosen = VMLinker(use_cloop=False, c_thunks=False) if linker == "vm" else "py"
    if rewrites == "fast_compile":
        return Mode(linker=chosen, optimizer="fast_compile")
    mode = Mode(linker=chosen, optimizer="fast_run").excluding("fusion")
    if not inplace:
        mode = mode.excluding("inplace")
    return mode.excluding(*LIGHT) if rewrites == "light" else mode


def function(inputs, outs, mode):
    return pytensor.function(inputs, outs, mode=mode, on_unused_input="ignore")


def call(fn, values):
    """Results on copies' own terms: nothing warns, arrays come back."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [np.array(x) for x in fn(*values)]


class Plain:
    """PyTensor without autotune: the raw graph at once, the optimised function only when it is needed."""

    def __init__(self, inputs, outs, mode, seconds):
        self.inputs, self.outs, self.mode, self.seconds = inputs, outs, mode, seconds
        self.raw = function(inputs, outs, RAW)
        self._compiled, self.tried, self.error = None, False, ""

    @property
    def compiled(self):
        """The optimised function, None where PyTensor cannot compile it."""
        if not self.tried:
            self.tried = True
            try:
                self._compiled = function(self.inputs, self.outs, self.mode)
            except Hang:
                raise Skip("plain PyTensor hangs") from None
            except Exception as error:
                self.error = f"{type(error).__name__}: {str(error)[:200]}"
        return self._compiled

    def run(self, values, which="compiled"):
        """Results of one of the two functions, None where it raises."""
        fn = getattr(self, which)
        try:
            return None if fn is None else call(fn, [np.array(v) for v in values])
        except Hang:
            raise Skip("slow plain run") from None
        except Exception as error:
            self.error = f"{type(error).__name__}: {str(error)[:200]}"
            return None


def tuned_function(case, setting, policy, examples=None, door=None):
    """``case`` compiled with autotune through a door, by default the one of the setting."""
    base = base_mode(setting.linker, setting.inplace, setting.rewrites).register((NoCycle(), AFTER_THE_PASS))
    known = {"example_inputs": examples} if examples else {}
    door = door or setting.door
    outs = case.outputs
    if door == "enable":
        with autotune.enabled(policy, **known):
            return function(case.variables, outs, base)
    if door == "tune":
        outs = case.derived(tuned_outputs(case, setting, policy, known))
        if setting.compiled_plainly:
            return function(case.variables, outs, base)
    return function(case.variables, outs, autotune.mode(policy, base=base, **known))


def tuned_outputs(case, setting, policy, known):
    """The values of the case after `tune`: before or after it is wrapped."""
    if setting.tuned_inside and case.wrap is not None:
        return case.wrap(_tuned(case.inner, setting, policy, known))
    return _tuned(case.values, setting, policy, known)


def _tuned(outs, setting, policy, known):
    tuned = autotune.tune(list(outs), policy, **known)
    return autotune.tune(list(tuned), policy) if setting.tuned_twice else tuned
