"""The ways to serve a problem, one a file, and their registry: adding one is a file and an entry here."""

from autotune.algebra import STRUCTURES
from autotune.algebra.blocks import Blocks
from autotune.algebra.composite import Composite
from autotune.strategies.banded import BandedStrategy
from autotune.strategies.base import No, Solver, Strategy, System, Work
from autotune.strategies.cg import ConjugateGradientsStrategy
from autotune.strategies.cholesky import CholeskyStrategy
from autotune.strategies.cholesky_or_lu import CholeskyOrLUStrategy
from autotune.strategies.circulant import CirculantStrategy
from autotune.strategies.diagonal import DiagonalStrategy
from autotune.strategies.elimination import EliminationStrategy
from autotune.strategies.keep import KeepStrategy
from autotune.strategies.known_inverse import KnownInverseStrategy
from autotune.strategies.lanczos import LanczosStrategy
from autotune.strategies.low_rank_update import LowRankUpdateStrategy
from autotune.strategies.lu import LUStrategy
from autotune.strategies.parts import PartsStrategy
from autotune.strategies.quasiseparable import QuasiseparableStrategy
from autotune.strategies.sparse_ldl import SparseLDLStrategy
from autotune.strategies.spectrum import SpectrumStrategy
from autotune.strategies.toeplitz import ToeplitzStrategy
from autotune.strategies.triangular import TriangularStrategy
from autotune.strategies.woodbury import WoodburyStrategy

STRATEGIES: tuple[Strategy, ...] = (
    KeepStrategy(),
    CholeskyStrategy(),
    CholeskyOrLUStrategy(),
    LUStrategy(),
    WoodburyStrategy(),
    ConjugateGradientsStrategy(),
    LanczosStrategy(),
    DiagonalStrategy(),
    LowRankUpdateStrategy(),
    SpectrumStrategy(),
    TriangularStrategy(),
    BandedStrategy(),
    QuasiseparableStrategy(),
    ToeplitzStrategy(),
    CirculantStrategy(),
    SparseLDLStrategy(),
    KnownInverseStrategy(),
    EliminationStrategy(0),
    EliminationStrategy(1),
    *(PartsStrategy(s) for s in STRUCTURES if issubclass(s, Composite) and s is not Blocks),
)

__all__ = ["STRATEGIES", "No", "Solver", "Strategy", "System", "Work"]
