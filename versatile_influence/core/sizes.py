"""Every size and threshold of the library, each with the measurement or the reason behind it."""

from contextvars import ContextVar

# Numbers that the largest array of derivatives along many directions may hold. A digits network (1,400 rows, 2,410
# parameters) takes 0.8 GB and less time at this size than at six times as much, which takes 3.6 GB.
HELD_NUMBERS = 5_000_000
# Numbers that one array of a batch over removals may hold: 16 MB, past which nothing gets faster.
CHUNK_NUMBERS = 2_000_000
# Numbers of an array of many gradients that is written out by hand, so that it stays in the cache with a few others.
CACHE_NUMBERS = 125_000
# Numbers of a Jacobian in factors that are made at once, and of how many of its rows.
FACTOR_BLOCK, FACTOR_ROWS = 1_000_000, 512
# Numbers of a block of rows of a Jacobian, and of a block of scores that is written to disk.
ROW_NUMBERS, SCORE_NUMBERS = 8_000_000, 5_000_000
# Numbers of gradient differences that are kept as one matrix beside blocks of scores on disk.
KEPT_NUMBERS = 16_000_000
# Bytes of the states of a training that are kept, and of the adjoints of its targets, without a memory budget.
STATE_BYTES, ADJOINT_BYTES = 500_000_000, 2_000_000_000
# Numbers of the adjoints that go back through a step at once: with a quarter of it, or four times as many, a step of 22
# million parameters takes up to two and four times as long.
ADJOINT_NUMBERS = 500_000
# Arrays of the largest size that live at once, as a memory budget counts them.
LIVE_ARRAYS = 16
# No more objects than this: a number each must fit in memory, several times.
MOST_OBJECTS = 1_000_000_000
# Memory requests below so many bytes are not worth asking the system about.
SMALL_BYTES = 2**24

# Up to this many parameters Newton's method makes the dense Hessian of any loss; of one whose Hessian is written out,
# and to finish what another minimiser began.
DENSE_PARAMETERS, WRITTEN_PARAMETERS, FINISHED_PARAMETERS = 400, 2000, 10_000
# From this many parameters on a problem is large: memory is measured, and fewer coordinates are looked for.
LARGE = 2000
# Along more directions than this the Jacobian of outputs is held (factors or rows) and multiplied.
MANY_DIRECTIONS = 16
# Numbers that the factors of a Jacobian may hold.
FACTOR_NUMBERS = 400_000_000
# Outputs and targets together up to which an attribution is solved in the span of their gradients, dense in them.
SPAN_PARAMETERS = 4000

# Largest effect of finishing the training, beside the largest score, that needs no warning; and a gradient, beside the
# loss whose rounding it is.
UNFINISHED, LOSS_ROUNDING = 0.01, 1e-14
# By how many roundings, of the whole, sums differ that are added up in another order: in double precision, where large
# terms may cancel and still leave digits, and in less.
REORDERED, REORDERED_LOW = 1e4, 30.0
# Share of a gradient along directions without curvature from which it is no rounding, and how many removals tell.
FLAT, TILTED_ROWS = 1e-4, 200
# Curvatures below this share of the largest count as zero where they are found by iteration.
SINGULAR = 1e-12
# Outputs of a network up to which their kernel is stored, so that CG on a Gauss–Newton matrix runs among them.
KERNEL_OUTPUTS = 4000

# Softmax: numbers that closed forms hold at once: few, to stay near the processor, but many rows a product.
CLOSED_FORM_NUMBERS, CLOSED_FORM_ROWS = 8_000_000, 128
# Items in a block of a triangle of blocks of the curvature, so that a symmetric product is computed once.
TRIANGLE = 256

# Graphs. Beyond so many nodes no table of all pairs is made, and the walks are walked instead: a gradient takes 2.5 ms
# so and 4.3 ms by the table at 300 nodes, 1.3 and 0.5 at 100.
DENSE_NODES = 200
# Numbers of the scores of a block of centres: beyond, they leave the cache, and with fewer narrow products are slow. Of
# 20,000 nodes in 16 dimensions products along 20 directions take 31 s so, and 46 s with a quarter of it.
CENTRE_NUMBERS = 1_000_000
# Numbers that pairs of nodes may hold, direction by direction: fewer would walk again for every few of them.
PAIR_NUMBERS = 20_000_000
# Bytes that tables of derivatives by all pairs of nodes may hold in double precision while a system is solved.
PAIR_BYTES = 8_000_000_000
# Products that find the scores a large graph's embedding is trained from.
LEADING_STEPS = 4
# Weights of edges are summed and multiplied: beyond, that overflows.
LARGEST_WEIGHT = 1e100
# Below this share of its full weight, what is left of a state's steps is rounding: no step leaves it.
DEAD_END = 1e-12
# Newton steps of the logistic regression on an embedding: it is strictly convex, and settled to rounding well before.
LOGISTIC_STEPS = 15

# Numbers that a module's frozen parts give for all batches, up to which they are kept: 200 MB in float32.
FROZEN_NUMBERS = 50_000_000
# Solvers. Up to so many parameters H is made dense unasked, and up to so many where CG, of some hundred steps a column,
# takes more products than the matrix; at the second it has 3.2 GB.
EXPLICIT_PARAMETERS, LARGEST_DENSE, STEPS_OF_CG = 5_000, 20_000, 100
# Numbers that the gradients of one batch of backward passes may hold.
PASS_NUMBERS = 20_000_000
# Numbers of all pseudo-gradients up to which EK-FAC holds them; of more their moments are summed, in a second round.
DRAWN_NUMBERS = 60_000_000
# Up to this many outputs B is a dense matrix, made some columns at a time; beyond, Lanczos steps apply its root.
DENSE_OUTPUTS, OUTER_CHUNK, ROOT_STEPS = 3000, 256, 60
# A recursion whose steps grow to this many times the right-hand side has diverged: while it converges they shrink.
DIVERGED = 1e3
# LiSSA's scale: power iterations on the whole and on so many samples, and what is added to the largest they find.
POWER_STEPS, SCALE_SAMPLES, SCALE_MARGIN = 8, 4, 1.1

# Training. A direction whose curvature fell to less than this share of what it was at first may lead to infinity, and
# so many steps beyond a minimiser's last tell a path without an end from a slow one.
KEPT, FURTHER = 1e-6, 100
# Newton steps after which a minimiser stops if nobody says otherwise.
NEWTON_STEPS = 200
# A minimiser that went so many times the size of its start is looked at again: does the loss fall forever?
FAR = 1e6
# Up to this many parameters an indefinite Hessian is taken apart into eigenvectors; beyond, so many products look for
# its most negative curvature.
EIGENVECTORS, DOWNWARD_STEPS = 2000, 30
# A curvature below minus this share of the largest is a way down, and so many saddles are left before one is taken.
NEGATIVE, SADDLES = 1e-7, 10
# A curvature below this share may be that of a saddle that is not quite reached; so many such directions are looked at.
LEVEL, FLATS = 1e-4, 8
# Gradients that training an embedding takes, 250 to 450 on power-law graphs of 600 to 2,000 nodes, and seconds from
# which a command says so before it begins.
GRADIENTS, SAID_SECONDS = 400, 5.0
# Seconds after which one who waits is shown progress.
PATIENCE = 10.0
# Steps of L-BFGS in coordinates of unit curvature, before these are taken anew, and twice as many each time after: of
# 2,000 nodes training takes 200 gradients so, 340 with those of the start and 690 in plain coordinates.
ROOTED_STEPS = 20
# What rounding may make of a loss whose terms are in single precision, relative to it: of 5,000 nodes, 75 evaluations
# after it fell by less changed nothing.
LEAST_FALL = 1e-9
# The gradient's largest entry, divided by n, from which Newton steps take over where the Hessian is written out; and
# where conjugate gradients solve for them: of 5,000 nodes in 16 dimensions training takes 38 s so, and from 2e-5 on 43.
NEWTON_FROM, ROOTED_FROM = 1e-5, 5e-7

# Largest number of a feature in an svmlight file: the table made of it is dense (LETOR's have 46 to 700), and a slip of
# the pen, 999999999, asks for 8 GB a row.
SPARSE_FEATURES = 100_000
# Lines of such a file that are taken apart at once: its text as a whole is several times the table that it becomes.
LINES = 20_000
# Files. Seconds to wait for a folder that another run holds: what a killed run leaves behind, a DataLoader's workers
# for up to five, may hold it on.
LOCK_SECONDS = 6.0

# Reading. Numbers converted to float64 at once: the scores themselves may be large, the copies never are.
BLOCK_NUMBERS = 1_000_000
# Names in a message, beside the largest dots and under the columns of a picture (more would overlap), rows that
# `vif retrain` and the check of `vif cox` list.
NAMED, NAMED_DOTS, NAMED_COLUMNS, SHOWN, LISTED = 5, 3, 16, 10, 6
# Nodes of a graph up to which a picture names each of them, and so many of the strongest beyond: 77 names can be read.
FEW_NODES, NAMED_NODES = 80, 12
# Above this many dots a vector graphic is slow to open: they are then drawn as an image inside it.
MANY_DOTS = 2000
# Trust. Estimated relative error up to which a score is trusted (below it the true error's 95th percentile was 0.10 to
# 0.16 on graphs and small networks), and the share of a typical removal's size below which one does nothing.
TRUSTED, FLOOR = 0.15, 0.01
# Numbers that say how large many scores are.
SCALE_NUMBERS = 500_000
# Scores off by more than this are warned of; if they were trusted, the removal has led to another minimum.
WRONG = 0.5
# How often the removals of a spot check are drawn again for its intervals.
RESAMPLES = 500
# Fewer removals have no correlation worth a number, and no interval of it.
CORRELATED, INTERVALS = 4, 10
# From this error on a second step is looked at, to tell slow convergence from a small error.
DOUBTED = 0.03
# The slowest convergence that is believed: beyond, two steps say too little of the sum of all.
SLOWEST = 0.8
# Numbers of all gradients of a check up to which every removal is checked (a second on one core), and otherwise, where
# the scores themselves took no more; of the largest losses so many removals.
CHECKED_NUMBERS, SAMPLED_NUMBERS, LEAST_CHECKED = 30_000_000, 200_000, 4
# ‖(H − G) x‖/‖G x‖ from which scores of the Gauss–Newton matrix are said to be others: on
# factorisations they correlate 0.61 to 0.87 with those of the Hessian at more, and 0.83 to 0.96 at less
# (`benchmarks/recommender.py`).
BENT = 0.3
# Where even these take more, none is: of 22 million parameters a column more is minutes, and gigabytes.
UNCHECKED_NUMBERS = 1_000_000_000
# The length of a Newton step over that of the last from which what is left is small: with a half, of 154 removals of
# characters of Les Misérables five were wrong by a third and more that were said to be within a tenth.
NEAR = 0.1
# Chord steps after which a removal is taken to the next rung.
CHORDS = 3
# Seconds up to which a command refits without each object of a linear model unless told otherwise, and how many refits
# at most tell how long all take.
REFIT_SECONDS, PROBED = 30.0, 64
# Sensitivity. So many sets are taken further in a search for small ones, of up to so many and one objects; and steps
# of the greedy search of large ones, each of several objects at once.
BEAM, FEW, GREEDY_STEPS = 25, 3, 20
# Report of a Cox model: patients up to which each is left out for leverage and case deletion (4 s at 3,000), and up to
# which every conclusion is put to the test (26 s for a sign at 3,000); patients of each coefficient, and coefficients,
# that are drawn; rows of a table; strata with a curve of their own.
DELETED, TESTED, CARRIERS, DRAWN, ROWS, CURVES = 5000, 2000, 5, 8, 12, 6
# How many robust standard deviations below the median a change is suspicious: 1 in 4,300 by chance if they were normal.
SUSPICIOUS = 3.5
# Share of ordinary objects among suspicious ones, expected at most. In pure noise of 60,000 documents 1,495 are beyond
# 3.5 deviations, as changes have heavy tails.
FALSE_DISCOVERIES = 0.1

# How many numbers of one array a caller allows, by `memory_budget` in core/memory.py.
ALLOWED: ContextVar[int | None] = ContextVar("allowed", default=None)


def at_once(numbers_each: int, *, most: int = CHUNK_NUMBERS) -> int:
    """Return how many things of so many numbers each are handled together, at least one."""
    allowed = ALLOWED.get()
    return max(1, min(most, most if allowed is None else allowed) // max(1, numbers_each))


def slices(count: int, size: int) -> list[slice]:
    """Return where so many things are cut into parts of a size, the last one shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def kept(bytes_each: int, *, most: int) -> int:
    """Return how many things of so many bytes each are kept while others are made: a third of what is allowed."""
    allowed = ALLOWED.get()
    return (most if allowed is None else allowed * 8 * LIVE_ARRAYS // 3) // max(1, bytes_each)
