"""Problems drawn at random, a strategy a family of losses: what test_fuzz.py holds its properties of.

A drawn problem is a `Case` whose name says all that was drawn. Its `build(kept)` is made from the data of those kept
alone, and returns None where nothing but the penalty is left; what the library itself refuses there is a ValueError.
"""

import itertools

import torch
from cases import Case, data, mlp, rows, rows_of
from hypothesis import strategies as st

import versatile_influence as vif
from versatile_influence.core.boundary import as_loss
from versatile_influence.losses.graphs.graph import Graph

seeds = st.integers(0, 10**6)
penalties = st.sampled_from([0.1, 1.0])


def listed(values, size):
    """Draw a list of so many of the values."""
    return st.lists(values, min_size=size, max_size=size)


def drawn_x(draw, n, d):
    """Draw features, of which two rows may be one."""
    x = data(draw(seeds), n, d)
    if draw(st.booleans()):
        x[1] = x[0]
    return x


def picked(values, chosen):
    """Return some entries of a list, or None of None."""
    return None if values is None else [values[i] for i in chosen]


@st.composite
def cox(draw, network=False):
    """Ties, entry, strata, weights and subjects, each or none."""
    n = draw(st.integers(3, 9))
    x, times = drawn_x(draw, n, draw(st.integers(1, 2))), draw(listed(st.integers(1, 4), n))
    events = draw(listed(st.booleans(), n).filter(any))
    columns = {"weights": listed(st.sampled_from([0.5, 1.0, 2.0, 1e-3]), n), "strata": listed(st.integers(0, 2), n)}
    columns |= {"entry": st.tuples(*(st.integers(0, time - 1) for time in times)).map(list)}
    columns |= {"subjects": listed(st.integers(0, 4), n)}
    given = {name: draw(column) for name, column in columns.items() if draw(st.booleans())}
    settings = {"ties": draw(st.sampled_from(["efron", "breslow"])), "penalty": draw(st.sampled_from([0.0, 0.1, 1.0]))}
    model = mlp(x.shape[1], 1) if network else None
    object_of = list(range(n))
    if "subjects" in given:
        object_of = [list(dict.fromkeys(given["subjects"])).index(subject) for subject in given["subjects"]]

    def build(kept):
        left = [row for row in range(n) if object_of[row] in set(kept)]
        if not any(events[row] for row in left):
            return None
        some = {name: picked(column, left) for name, column in given.items()}
        return vif.losses.CoxLoss(x[left], picked(times, left), picked(events, left), model=model, **settings, **some)

    name = f"cox {settings} {given} {times=} {events=} x={x.tolist()}"
    return Case(name, max(object_of) + 1, build, convex=not network)


@st.composite
def rankings(draw, network=False):
    """Lists of different lengths over items; items or queries are the objects."""
    queries, items, kind = draw(st.integers(2, 4)), draw(st.integers(2, 5)), draw(st.sampled_from(["items", "queries"]))
    x, lists = drawn_x(draw, queries, 2), [draw(st.permutations(range(items))) for _ in range(queries)]
    lists = [ranking[: draw(st.integers(1, items))] for ranking in lists]
    gains = [[draw(st.sampled_from([0.0, 1.0, 3.0])) for _ in ranking] for ranking in lists]
    listwise, penalty = draw(st.booleans()), draw(penalties)

    def build(kept):
        kept = list(kept)
        names, left = (kept, range(queries)) if kind == "items" else (list(range(items)), kept)
        number = {item: place for place, item in enumerate(names)}
        places = {query: [k for k, item in enumerate(lists[query]) if item in number] for query in left}
        some = [query for query in left if places[query]]
        if not some:
            return None
        found = [[number[lists[query][k]] for k in places[query]] for query in some]
        settings = {"n_items": len(names), "penalty": penalty, "objects": kind}
        if network:
            layers = torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, len(names))
            settings["model"] = torch.nn.Sequential(*layers).double()
            settings["item_parameters"] = ("2.weight", "2.bias") if kind == "items" else ()
        if listwise:
            return vif.losses.ListMLELoss(x[some], found, **settings)
        weights = [[gains[query][k] for k in places[query]] for query in some]
        return vif.losses.SoftmaxRankingLoss(x[some], found, gains=weights, **settings)

    def restrict(params, kept):
        if kind == "queries":
            return params
        if not network:
            return rows_of(params, kept)
        return {name: value[list(kept)] if name.startswith("2.") else value for name, value in params.items()}

    name = f"{'ListMLE' if listwise else 'softmax'} of {kind} {penalty=} {items=} {lists=} {gains=} x={x.tolist()}"
    return Case(name, items if kind == "items" else queries, build, restrict, convex=not network)


@st.composite
def documents(draw, network=False):
    """Queries with documents of their own or shared ones, in tied grades."""
    sizes, kind = draw(st.lists(st.integers(2, 4), min_size=1, max_size=3)), draw(st.sampled_from(["own", "shared"]))
    objects = draw(st.sampled_from(["documents", "queries"])) if len(sizes) > 1 else "documents"
    qid, n = [query for query, size in enumerate(sizes) for _ in range(size)], sum(sizes)
    x, grades, penalty = drawn_x(draw, n, 2), draw(listed(st.integers(0, 2), n)), draw(penalties)
    ids = list(range(n)) if kind == "own" else [i for size in sizes for i in draw(st.permutations(range(4)))[:size]]
    owners = sorted(set(ids)) if objects == "documents" else sorted(set(qid))
    top = draw(st.sampled_from([None, 1, 2])) if objects == "queries" else None

    def build(kept):
        names = {owners[number] for number in kept}
        left = [row for row in range(n) if (ids[row] if objects == "documents" else qid[row]) in names]
        # Of one document nothing is ranked.
        left = [row for row in left if sum(qid[other] == qid[row] for other in left) > 1]
        if not left:
            return None
        given = [picked(column, left) for column in (grades, qid)]
        return vif.losses.DocumentListMLELoss(
            x[left],
            *given,
            documents=picked(ids, left),
            objects=objects,
            top=top,
            penalty=penalty,
            model=mlp(2, 1) if network else None,
        )

    name = f"documents {objects=} {top=} {penalty=} {qid=} {ids=} {grades=} x={x.tolist()}"
    return Case(name, len(owners), build, convex=not network)


@st.composite
def contrastive(draw, network=False):
    """SimCLR, CLIP, queries with documents, and SupCon, in batches."""
    kind, n, d = draw(st.sampled_from(["SimCLR", "CLIP", "one way", "SupCon"])), draw(st.integers(3, 6)), 3
    count = 2 if kind == "CLIP" else draw(st.integers(2, 3))
    views, temperature = data(draw(seeds), count, n, d), draw(st.sampled_from([0.3, 1.0]))
    cut, order = draw(st.integers(2, n)), draw(st.permutations(range(n)))
    batches = [batch for batch in (order[:cut], order[cut:]) if len(batch) > 1]
    classes = torch.tensor(draw(listed(st.integers(0, 1), n))) if kind == "SupCon" else None
    divisors = None if classes is None else torch.tensor([2.0 + i for i in range(n)])
    penalty = draw(st.sampled_from([0.0, 0.5]))

    def build(kept):
        kept = list(kept)
        number = {item: place for place, item in enumerate(kept)}
        left = [[number[item] for item in batch if item in number] for batch in batches]
        return vif.losses.InfoNCELoss(
            views[:, kept],
            batches=[batch for batch in left if batch],
            temperature=temperature,
            penalty=penalty,
            across=kind == "CLIP",
            one_way=kind == "one way",
            classes=None if classes is None else classes[kept],
            positive_counts=None if divisors is None else divisors[kept],
            model=mlp(d, 2) if network else None,
        )

    words = None if classes is None else classes.tolist()
    name = f"{kind} {batches=} {temperature=} {penalty=} classes={words} views={views.tolist()}"
    return Case(name, n, build, convex=False)


@st.composite
def pairs(draw, network=False):
    """Pairs whose objects are the pairs or their ends; scores are linear, a strength each, or a network's."""
    n = draw(st.integers(2, 5))
    ends = draw(st.lists(st.sampled_from(list(itertools.permutations(range(n), 2))), min_size=2, max_size=7))
    kind = "network" if network else draw(st.sampled_from(["linear", "strengths"]))
    players, x = draw(st.booleans()), drawn_x(draw, n, 2)
    weights = draw(st.none() | listed(st.sampled_from([0.0, 1.0, 2.0]), len(ends)))
    beta, penalty = draw(st.sampled_from([0.5, 2.0])), draw(penalties)

    def left_of(kept):
        present = set(kept)
        return [t for t, pair in enumerate(ends) if (present.issuperset(pair) if players else t in present)]

    def build(kept):
        left = left_of(kept)
        if not left:
            return None
        everyone = players and len(list(kept)) == n
        return vif.losses.PairwiseLoss(
            *zip(*picked(ends, left), strict=True),
            x=None if kind == "strengths" else x,
            model=mlp(2, 1) if network else None,
            incidence=picked(ends, left) if everyone else None,
            n_objects=n if everyone else None,
            beta=beta,
            weights=None if weights is None else torch.tensor(picked(weights, left)).double(),
            penalty=penalty,
        )

    def restrict(params, kept):
        left = left_of(kept)
        return params[: 1 + max(max(ends[t]) for t in left)] if kind == "strengths" and left else params

    name = f"pairs {kind=} {players=} {ends=} {weights=} {beta=} {penalty=} x={x.tolist()}"
    return Case(name, n if players else len(ends), build, restrict, convex=not network)


@st.composite
def terms(draw):
    """Sums of terms, each with one object or several."""
    n, count = draw(st.integers(2, 4)), draw(st.integers(2, 8))
    family = draw(st.sampled_from(["square", "yes", "count"]))
    x, penalty, several = drawn_x(draw, count, 2), draw(penalties), draw(st.booleans())
    answers = {"square": st.sampled_from([-1.0, 0.25, 2.0]), "yes": st.sampled_from([0.0, 1.0])}
    y = torch.tensor(draw(listed(answers.get(family, st.sampled_from([0.0, 1.0, 3.0])), count))).double()
    needs = draw(listed(st.lists(st.integers(0, n - 1), min_size=1, max_size=3 if several else 1), count))
    kinds = {"square": vif.losses.SquaredError, "yes": vif.losses.Logistic, "count": vif.losses.Poisson}

    def build(kept):
        left = [t for t in range(count) if set(needs[t]) <= set(kept)]
        if not left:
            return None
        some, table = kinds[family](y[left]), range(len(left))
        # With everybody there, the objects are as drawn; of those kept only the value is asked.
        if everyone := len(list(kept)) == n:
            table = [[*needs[t], -1, -1][:3] for t in left] if several else [needs[t][0] for t in left]
        number = n if everyone else None
        if not several:
            linear = vif.losses.Linear(x[left])
            return vif.losses.TermLoss(some, table, outputs=linear, penalty=penalty, n_objects=number)
        start = torch.zeros(2).double()
        return vif.losses.TermLoss(
            lambda theta: some(x[left] @ theta), table, penalty=penalty, n_objects=number, start=start
        )

    name = f"terms {family=} {needs=} {penalty=} y={y.tolist()} x={x.tolist()}"
    return Case(name, n, build)


@st.composite
def walks(draw):
    """Walk embeddings of small graphs, whose nodes or edges are the objects, and skip-grams."""
    n, directed = draw(st.integers(3, 5)), draw(st.booleans())
    ways = list(itertools.permutations(range(n), 2) if directed else itertools.combinations(range(n), 2))
    ends = sorted(draw(st.sets(st.sampled_from(ways), min_size=2)))
    weights = torch.tensor(draw(listed(st.sampled_from([1.0, 0.25, 5.0]), len(ends)))).double()
    objects = draw(st.sampled_from(["nodes", "edges"]))
    drawn = {"length": st.integers(2, 4), "window": st.sampled_from([1, [1], [-1, 1], [0, 1]])}
    drawn |= {"dead_ends": st.sampled_from(["stay", "stop"]), "p": st.sampled_from([1.0, 0.5])}
    models = [vif.losses.Softmax(), vif.losses.NegativeSampling(negatives=2.0)]
    settings = {name: draw(values) for name, values in drawn.items()} | {"penalty": 0.5, "dim": draw(st.integers(1, 2))}
    settings |= {"q": draw(st.sampled_from([1.0, 2.0])), "model": draw(st.sampled_from(models)), "objects": objects}

    def build(kept):
        kept = list(kept)
        nodes = kept if objects == "nodes" else list(range(n))
        number = {node: place for place, node in enumerate(nodes)}
        left = [e for e, pair in enumerate(ends) if (number.keys() >= set(pair) if objects == "nodes" else e in kept)]
        moved = torch.tensor([[number[a], number[b]] for a, b in picked(ends, left)]).view(-1, 2).long()
        return vif.losses.WalkEmbeddingLoss(Graph(len(nodes), moved, weights[left], directed), **settings)

    seed = draw(seeds)
    point = lambda: {"embedding": data(seed, n, settings["dim"]), "output": data(seed + 1, n, settings["dim"])}  # noqa: E731
    restrict = rows if objects == "nodes" else lambda params, kept: params
    name = f"walks {n=} {directed=} {ends=} weights={weights.tolist()} {settings} {seed=}"
    return Case(name, n if objects == "nodes" else len(ends), build, restrict, point, convex=False)


@st.composite
def functions(draw):
    """A function of one's own: squares of pairs, the logarithm of a sum over those present, and a penalty."""
    n = draw(st.integers(2, 5))
    x, y, link = drawn_x(draw, n, 2), data(draw(seeds), n, n), draw(listed(st.sampled_from([0.0, 1.0]), n))
    penalty = draw(penalties)

    def build(kept):
        kept = list(kept)
        some, wanted, linked = x[kept], y[kept][:, kept], torch.tensor(picked(link, kept)).double()

        def loss(theta, presence):
            scores = some @ theta
            squares = (scores[:, None] + linked * scores - wanted).square()
            total = (presence * torch.exp(scores)).sum()
            return presence @ squares @ presence / 2 + total.log1p() + penalty / 2 * theta.square().sum()

        return as_loss(loss, len(kept))

    seed = draw(seeds)
    name = f"function {link=} {penalty=} x={x.tolist()} y={y.tolist()} {seed=}"
    return Case(name, n, build, point=lambda: data(seed, 2))


@st.composite
def networks(draw):
    """A network in the place of a linear model, or embeddings: parameters in a dict of several."""
    ready = [family(network=True) for family in (cox, rankings, documents, contrastive, pairs)]
    return draw(st.one_of(*ready, walks()))


FAMILIES = {
    "cox": cox(),
    "rankings": rankings(),
    "documents": documents(),
    "contrastive": contrastive(),
    "pairs": pairs(),
    "terms": terms(),
    "walks": walks(),
    "functions": functions(),
    "networks": networks(),
}


@st.composite
def removals(draw, n):
    """Draw single objects or groups of them, never everybody."""
    single = st.integers(0, n - 1)
    if draw(st.booleans()):
        return draw(st.lists(single, min_size=1, max_size=4))
    some = st.lists(single, min_size=1, max_size=max(1, n - 1), unique=True)
    return draw(st.lists(some, min_size=1, max_size=3))
