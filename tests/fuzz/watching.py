"""What a compile says and does beside its result: messages, errors that PyTensor swallows, cycles, hangs."""

import logging
import signal
import traceback
from contextlib import contextmanager

from pytensor.graph.rewriting.basic import GraphRewriter
from pytensor.graph.traversal import walk_toposort

# After the pass in the doors `mode` and `enable` (1.4 and a little more), before PyTensor's stabilize (1.5).
AFTER_THE_PASS = 1.45


class Hang(BaseException):
    """The time of a step is over. Not an `Exception`: the pass catches these."""


class Cycle(BaseException):
    """The pass left a graph with a cycle, on which PyTensor's next rewrite never ends."""


@contextmanager
def limit(seconds):
    """Raise `Hang` when the block has used so much processor time (on a busy machine wall time is longer)."""

    def over(*_):
        raise Hang

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class NoCycle(GraphRewriter):
    """Changes nothing; raises `Cycle` on a graph that has one."""

    def apply(self, fgraph):
        nodes = [o.owner for o in fgraph.outputs if o.owner is not None]
        try:
            list(walk_toposort(nodes, lambda node: [i.owner for i in node.inputs if i.owner is not None]))
        except ValueError:
            raise Cycle("the graph has a cycle after the pass") from None


class Records(logging.Handler):
    """The texts of a logger's warnings; ``traces`` the errors that it logs, at any level."""

    def __init__(self):
        super().__init__(level=logging.DEBUG)
        self.texts, self.traces = [], []

    def emit(self, record):
        if record.levelno >= logging.WARNING:
            self.texts.append(record.getMessage())
        if record.exc_info:
            self.traces.append("".join(traceback.format_exception(*record.exc_info)))

    def clear(self):
        self.texts.clear()
        self.traces.clear()


@contextmanager
def recorded(name, level=None):
    """The records of a logger and of those below it, which reach nobody else meanwhile."""
    logger, records = logging.getLogger(name), Records()
    before = logger.handlers, logger.propagate, logger.level
    below = [log for key, log in logging.root.manager.loggerDict.items() if key.startswith(f"{name}.")]
    hidden = [(log, log.handlers) for log in below if isinstance(log, logging.Logger)]
    for log, _ in hidden:
        log.handlers = []
    logger.handlers, logger.propagate = [records], False
    if level is not None:
        logger.setLevel(level)
    try:
        yield records
    finally:
        logger.handlers, logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
        for log, handlers in hidden:
            log.handlers = handlers
