"""Names of matrices that a user can write in a rule."""

from __future__ import annotations

LOGPROB = "_logprob"
STEPS = 400


def name_of(fgraph, matrix) -> str | None:
    """The matrix's own name, else the nearest PyMC term ``<rv>_logprob`` that it contributes to.

    None when there is neither. The search downstream is bounded, breadth first.
    """
    if matrix.name:
        return matrix.name
    queue, seen = [matrix], {matrix}
    for var in queue:
        if len(seen) > STEPS:
            return None
        for client, _ in fgraph.clients.get(var, ()):
            for out in client.outputs:
                if out.name and out.name.endswith(LOGPROB) and out.name != "_" + LOGPROB:
                    return out.name
                if out not in seen:
                    seen.add(out)
                    queue.append(out)
    return None
