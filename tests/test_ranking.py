"""Ranking, pairs and contrast: what bad data say, targets against brute force, readers, and owned parameters."""

import itertools
import math
import os
import pickle
import warnings
from dataclasses import replace

import pandas as pd
import pytest
import torch
from cases import LISTS, data, item_lists

import versatile_influence as vif
from versatile_influence.core.owned import Conditioned, Marginalised, Shared
from versatile_influence.datasets import documents, ranking, svmlight
from versatile_influence.losses import (
    DocumentListMLELoss,
    InfoNCELoss,
    ListMLELoss,
    PairwiseLoss,
    TermLoss,
)
from versatile_influence.losses.softmax import closed_forms


def items():
    return item_lists(ListMLELoss)(range(5))


@pytest.mark.parametrize(
    ("rankings", "words"),
    [
        ([[0, 9]], r"`rankings.0.` is 9 at position 1; it must be a whole number, 0 to 2"),
        ([[0, 1, 0]], "names item 0 twice"),
        ([[]], "list of query 0 is empty"),
        ([[0], [1]], "one list a query: 1, got 2"),
    ],
)
def test_bad_lists_are_named(rankings, words):
    with pytest.raises(ValueError, match=words):
        ListMLELoss([[1.0]], rankings, n_items=3)


def test_a_missing_feature_is_named_by_query_and_column():
    with pytest.raises(ValueError, match="nan for query 1, column 0"):
        ListMLELoss([[1.0], [math.nan]], [[0], [1]], n_items=2)


def test_a_missing_feature_of_a_document_is_named_by_query_and_column():
    with pytest.raises(ValueError, match=r"nan for row 2 \(query 'b'\), column 1"):
        DocumentListMLELoss([[1.0, 2.0], [1.0, 2.0], [0.0, math.nan], [1.0, 0.0]], [0, 1, 0, 1], ["a", "a", "b", "b"])


@pytest.mark.parametrize(
    ("qid", "words"),
    [
        (None, "`qid` is missing"),
        (["a", "b", "a", "b"], "Sort the rows by `qid`"),
        ([1.0, 1.0, math.nan, 2.0], "row 2"),
    ],
)
def test_bad_qid_is_named(qid, words):
    with pytest.raises(ValueError, match=words):
        DocumentListMLELoss(data(1, 4, 2), [0, 1, 0, 1], qid)


def test_a_query_with_one_document_and_a_document_twice_are_named():
    with pytest.raises(ValueError, match="Query 'b' has one document"):
        DocumentListMLELoss(data(1, 3, 2), [0, 1, 0], ["a", "a", "b"])
    with pytest.raises(ValueError, match="lists a document twice"):
        DocumentListMLELoss(data(1, 2, 2), [0, 1], ["a", "a"], documents=["d", "d"])


def test_removing_all_items_leaves_the_penalty():
    loss = items()
    params = data(3, 5, 3)
    everybody = vif.parameter_changes(loss, vif.minimize(loss, loss.zeros()), objects=[list(range(5))])
    assert torch.isfinite(everybody).all()
    assert loss(params, torch.zeros(5).double()).item() == pytest.approx(0.2 * params.square().sum().item())


def test_removing_all_documents_of_a_query_is_leaving_the_query_out():
    x, grades, qid = data(1, 6, 2), [0, 1, 2, 1, 0, 2], ["a", "a", "a", "b", "b", "b"]
    loss = DocumentListMLELoss(x, grades, qid, penalty=0.5)
    alone = DocumentListMLELoss(x[3:], grades[3:], qid[3:], penalty=0.5)
    params, gone = data(2, 2), torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).double()
    assert loss(params, gone).item() == pytest.approx(alone(params, torch.ones(3).double()).item())
    trained = vif.minimize(loss, loss.zeros())
    refitted = vif.refit(loss, trained, lambda theta: theta, objects=[[0, 1, 2]]).scores
    torch.testing.assert_close(trained + refitted[0], vif.minimize(alone, alone.zeros()), rtol=1e-6, atol=1e-6)
    assert torch.isfinite(vif.attribute(loss, trained, lambda theta: theta, objects=[[0, 1, 2]]).scores).all()


def test_an_object_in_no_term_is_said_once_and_scores_zero():
    with pytest.warns(UserWarning, match="1 of 3 objects are in no term"):
        loss = TermLoss(lambda theta: (theta - torch.tensor([1.0, 3.0]).double()) ** 2, [0, 1], n_objects=3)
    # Warnings are errors here: it is not said again.
    scores = vif.attribute(loss, torch.tensor(2.0).double(), lambda theta: theta).scores[:, 0]
    assert scores.tolist() == pytest.approx([0.5, -0.5, 0.0])


def test_incidence_is_checked():
    with pytest.warns(UserWarning, match="1 of 3 objects are in no term"):
        TermLoss(lambda theta: theta * torch.ones(2), [0, 1], n_objects=3)
    with pytest.raises(ValueError, match="Term 1 names object 7"):
        TermLoss(lambda theta: theta * torch.ones(2), [0, 7], n_objects=3)
    with pytest.raises(ValueError, match="prefers 1 to itself"):
        PairwiseLoss([0, 1], [1, 1])
    with pytest.raises(ValueError, match="at least two objects"):
        InfoNCELoss(data(1, 2, 3, 2), batches=[[0, 1], [2]])


def test_linear_outputs_are_the_same_loss_as_the_function_of_the_parameters():
    x, y, x_test = data(1, 30, 3), data(2, 30), data(3, 7, 3)
    rows = torch.arange(30) // 2  # two rows an object
    plain = TermLoss(lambda theta: (x @ theta - y).cosh(), rows, penalty=0.5, start=torch.zeros(3).double())
    linear = TermLoss(lambda o: (o - y).cosh(), rows, penalty=0.5, outputs=vif.losses.Linear(x))
    target = vif.losses.term_values(TermLoss(torch.exp, torch.arange(7), outputs=vif.losses.Linear(x_test)))
    params = vif.minimize(plain, plain.zeros())
    torch.testing.assert_close(vif.minimize(linear, linear.zeros()), params)
    for verb in (vif.attribute, vif.newton_step, vif.refit):
        for objects in (None, [3, 0], [[3, 0], [1]]):
            expected = verb(plain, params, lambda theta: (x_test @ theta).exp(), objects=objects).scores
            torch.testing.assert_close(verb(linear, params, target, objects=objects).scores, expected)


def test_linear_outputs_in_several_terms_are_refused():
    with pytest.raises(ValueError, match="Output 0 is in term 2 too"):
        TermLoss(lambda o: o - o.mean(), [0, 1, 2], outputs=vif.losses.Linear(data(1, 3, 2)))
    with pytest.raises(ValueError, match="one term an output: 3 rows"):
        TermLoss(lambda o: o.sum()[None], [0], outputs=vif.losses.Linear(data(1, 3, 2)))


def test_differences_stay_exact_where_one_item_has_all_the_probability():
    loss = ListMLELoss([[1.0]], [[1, 2]], n_items=4)
    params = torch.tensor([[0.0, 40.0], [0.0, 0.0], [0.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    # Without item 0 the sums are e^0 + e^1 + e^2, then e^1 + e^2, to the last digit, although 1 − p ≈ 1e−17.
    rest = math.log(1 + math.e + math.e**2) - 0 + math.log(math.e + math.e**2) - 1
    full = loss(params, torch.ones(4).double()).item()
    assert loss.removal_differences(params)[0].item() == pytest.approx(full - rest, rel=1e-15)
    gradients = torch.func.jacfwd(loss.removal_differences)(params).reshape(4, -1)
    torch.testing.assert_close(loss.removal_products(params), gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [ListMLELoss, vif.losses.SoftmaxRankingLoss])
@pytest.mark.parametrize("objects", [None, [3, 0]])
def test_effects_of_all_removals_at_once_are_those_of_one_after_the_other(kind, objects):
    loss, params = item_lists(kind)(range(5)), data(8, 5, 3)
    params[2, 2] = 40.0  # and one item has all the probability
    test = vif.losses.query_loss(item_lists(kind)(range(5)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        at_once = vif.attribute(loss, params, test, objects=objects)
        one_by_one = vif.attribute(loss, params, replace(test, closed=None), objects=objects)
    for effect in ("direct", "parameter", "scores"):
        found, expected = getattr(at_once, effect), getattr(one_by_one, effect)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_curvature_is_the_same_in_blocks_of_any_size(monkeypatch):
    loss, params, everybody = items(), data(8, 5, 3), torch.ones(5).double()
    whole = loss.hessian(params, everybody)
    monkeypatch.setattr(closed_forms, "TRIANGLE", 2)
    monkeypatch.setattr(closed_forms, "CLOSED_FORM_NUMBERS", 1)
    monkeypatch.setattr(closed_forms, "CLOSED_FORM_ROWS", 2)
    torch.testing.assert_close(loss.hessian(params, everybody), whole, rtol=1e-12, atol=1e-12)


def test_listmle_is_the_probability_of_the_order():
    """The lists of all orders of three items have probabilities that sum to one."""
    params = data(5, 3, 2)
    total = sum(
        math.exp(-ListMLELoss([[0.7]], [list(order)], n_items=3)(params, torch.ones(3).double()).item())
        for order in itertools.permutations(range(3))
    )
    assert total == pytest.approx(1.0)


def test_the_default_treatment_of_owned_parameters_is_nearest_to_refits():
    x = data(11, 200, 3)
    scores = x @ data(12, 3, 6) + 2 * data(13, 200, 6)
    lists = scores.argsort(dim=1, descending=True)[:, :2].tolist()
    loss = ListMLELoss(x, lists, n_items=6, penalty=1.0)
    params = vif.minimize(loss, loss.zeros())
    target = vif.losses.query_loss(ListMLELoss(data(14, 8, 3), [[0, 1]] * 8, n_items=6))
    truth = vif.refit(loss, params, target)
    error = {}
    marginalised, conditioned, shared = Marginalised(), Conditioned(), Shared()
    for treatment in (marginalised, conditioned, shared):
        estimate = vif.attribute(loss.treated(treatment), params, target)
        error[treatment] = ((estimate.parameter - truth.parameter).norm() / truth.parameter.norm()).item()
        torch.testing.assert_close(estimate.direct, truth.direct, atol=1e-7, rtol=1e-7)
    assert error[marginalised] < min(error[conditioned], error[shared])
    newton = vif.newton_step(loss, params, target)
    assert (newton.scores - truth.scores).abs().max() < 0.05 * truth.scores.abs().max()


def test_owned_parameters_fall_to_zero_and_plain_targets_agree_with_parameter_changes():
    loss = items()
    params = vif.minimize(loss, loss.zeros())
    changes = vif.parameter_changes(loss, params)
    for item in range(5):
        torch.testing.assert_close(changes[item, loss.owned(item)], -params[item])
    scores = vif.attribute(loss, params, lambda theta: theta.reshape(-1)[:4]).scores
    torch.testing.assert_close(scores, changes[:, :4])


def test_top_k_probability_is_plackett_luce():
    test = ListMLELoss([[1.0]], [[0]], n_items=3)
    params = data(6, 3, 2)
    mass = test.scores(params)[0].exp()
    exact = (mass[1] / mass.sum()) + sum(
        mass[first] / mass.sum() * mass[1] / (mass.sum() - mass[first]) for first in (0, 2)
    )
    target = vif.losses.top_k_probability(test, 1, k=2, n_draws=20000)
    assert target(params, torch.ones(3).double()).item() == pytest.approx(exact.item(), abs=0.01)
    assert target(params, torch.tensor([1.0, 0.0, 1.0]).double()).item() == 0.0


def test_ndcg_change_is_zero_where_no_order_changes():
    loss = items()
    params = vif.minimize(loss, loss.zeros())
    gains = torch.zeros(5, 5, dtype=torch.float64)
    for query, ranked in enumerate(LISTS):
        gains[query, ranked[0]] = 1.0
    newton = vif.newton_step(loss, params, vif.losses.ndcg_change(loss, gains, k=3))
    assert torch.isfinite(newton.scores).all()
    assert newton.scores.abs().max() <= 1.0


def test_networks_give_the_linear_loss_when_they_are_linear():
    x = data(2, 5, 2)
    head = torch.nn.Linear(2, 5).double()
    names = ("weight", "bias")
    network = ListMLELoss(x, LISTS, n_items=5, penalty=0.4, model=head, item_parameters=names)
    params = vif.minimize(network, network.zeros())
    linear = ListMLELoss(x, LISTS, n_items=5, penalty=0.4)
    stacked = torch.cat([params["weight"], params["bias"][:, None]], dim=1)
    test_linear = vif.losses.query_loss(ListMLELoss(x, LISTS, n_items=5))
    test_network = vif.losses.query_loss(ListMLELoss(x, LISTS, n_items=5, model=head))
    expected = vif.attribute(linear, stacked, test_linear)
    torch.testing.assert_close(vif.attribute(network, params, test_network).scores, expected.scores)


def test_readers(tmp_path):
    (tmp_path / "a.arff").write_text(
        "@relation m\n@attribute f1 numeric\n@attribute f2 numeric\n@attribute L1 {0,1}\n"
        "@attribute L2 {0,1}\n\n@data\n0.5,-1.25,1,0\n0,3e-1,1,1\n"
    )
    dense = ranking.read_arff(tmp_path / "a.arff", n_labels=2)
    assert dense.x.toarray().tolist() == [[0.5, -1.25], [0.0, 0.3]]
    assert dense.lists() == [[0], [0, 1]]
    assert dense.label_names == ["L1", "L2"]


@pytest.mark.parametrize("zero_based", [True, False])
def test_a_file_is_read_as_scikit_learn_reads_it(tmp_path, zero_based):
    from sklearn.datasets import dump_svmlight_file, load_svmlight_file

    x = data(3, 40, 6) * (data(4, 40, 6) > 0.3) * 10.0 ** (data(5, 40, 6) * 9)
    path, qid = tmp_path / "a.svm", torch.arange(40).numpy() // 7
    dump_svmlight_file(x.numpy(), data(6, 40).numpy(), str(path), query_id=qid, zero_based=zero_based)
    theirs, grades, queries = load_svmlight_file(path, query_id=True, n_features=6)
    read = svmlight.read_svmlight(path, n_features=6)
    assert read.x.tolist() == theirs.toarray().tolist()
    assert read.relevance.tolist() == grades.tolist()
    assert read.qid == [str(query) for query in queries]
    assert read.assumed == (f"Features of {path} are numbered from {0 if zero_based else 1}.",)


@pytest.mark.parametrize("line", ["1:2:3", "1:2 3", "1 2:3:4", "a:2", "1:b", "1.5:2", "7", "::", "1:2 1:3"])
@pytest.mark.parametrize("alone", [True, False])
def test_a_line_that_is_no_list_of_features_is_named(tmp_path, line, alone):
    (tmp_path / "a.svm").write_text(f"# a comment\n1 qid:1 {line}\n" + ("" if alone else "0 qid:1 1:2 2:3\n" * 3))
    with pytest.raises(ValueError, match=r"Line 2 of .*a.svm (cannot be read: features must be|has feature 1 twice)"):
        svmlight.read_svmlight(tmp_path / "a.svm")


def test_numbers_of_rows_beside_a_file_are_its_queries_and_must_add_up(tmp_path):
    path = tmp_path / "a.svm"
    path.write_text("1 1:2\n0 1:3\n2 1:4\n")
    with pytest.raises(ValueError, match=r"Line 1 .* has no `qid:`.*a\.svm\.query or .*a\.svm\.group"):
        svmlight.read_svmlight(path)
    (tmp_path / "a.svm.group").write_text("2\n1\n")
    read = svmlight.read_svmlight(path, zero_based=True)
    assert (read.qid, read.x.tolist()) == (["1", "1", "2"], [[0.0, 2.0], [0.0, 3.0], [0.0, 4.0]])
    (tmp_path / "sizes").write_text("1\n1\n")
    with pytest.raises(ValueError, match=r"sizes have 2 rows together, and .*a.svm has 3"):
        svmlight.read_svmlight(path, groups=tmp_path / "sizes")
    (tmp_path / "sizes").write_text("1\nx\n")
    with pytest.raises(ValueError, match="'x' is none"):
        svmlight.read_svmlight(path, groups=tmp_path / "sizes")
    path.write_text("1 qid:1 1:2\n0 1:3\n")
    with pytest.raises(ValueError, match="Line 2 of .* has no `qid:`"):
        svmlight.read_svmlight(path)


def test_document_readers(tmp_path):
    (tmp_path / "b.svm").write_text("2 qid:1 1:0.5 3:1 # docid = A\n0 qid:1 2:1 # docid = B\n")
    read = svmlight.read_svmlight(tmp_path / "b.svm")
    assert read.x.tolist() == [[0.5, 0.0, 1.0], [0.0, 1.0, 0.0]]
    assert (read.qid, read.names) == (["1", "1"], ["A", "B"])
    (tmp_path / "c.svm").write_text("2 1:0.5\n")
    with pytest.raises(ValueError, match=r"Line 1 .* has no `qid:`"):
        svmlight.read_svmlight(tmp_path / "c.svm")
    (tmp_path / "run").write_text("q1 Q0 A 1 3.5 t\nq1 Q0 B 2 2.5 t\n")
    (tmp_path / "qrels").write_text("q1 0 B 2\n")
    (tmp_path / "qrels1").write_text("q1 0 B 2\n")
    assert documents.read_trec(tmp_path / "run", tmp_path / "qrels").relevance.tolist() == [0.0, 2.0]
    (tmp_path / "qrels").write_text("q2 0 B 2\n")
    with pytest.raises(ValueError, match=r"No query of .*, such as q2, has a candidate"):
        documents.read_trec(tmp_path / "run", tmp_path / "qrels")
    (tmp_path / "more").write_text("q1 0 B 2\nq2 0 B 2\n")
    left = documents.read_trec(tmp_path / "run", tmp_path / "more")
    assert left.qid == ["q1", "q1"]
    assert left.assumed[0].startswith("Left out ['q2'], 1 of 2 judged queries of")
    (tmp_path / "other").write_text("q1 Q0 B 1 0.5 u\nq1 Q0 C 2 0.25 u\n")
    both = documents.read_trec([tmp_path / "run", tmp_path / "other"], tmp_path / "qrels1")
    assert both.names == ["A", "B", "C"]
    assert both.x.tolist() == [[3.5, 0.25], [2.5, 0.5], [2.5, 0.25]]
    (tmp_path / "bad").write_text("q1 Q0 B 1 high u\n")
    with pytest.raises(ValueError, match=r"Line 1 of .*bad has .high. where a number is needed"):
        documents.read_trec(tmp_path / "bad", tmp_path / "qrels1")
    frame = pd.DataFrame({"qid": [2, 1, 2], "label": [0, 1, 2], "f": [1.0, 2.0, 3.0]})
    assert documents.from_frame(frame).x.squeeze().tolist() == [2.0, 1.0, 3.0]


@pytest.mark.data
def test_delicious_is_what_was_published():
    if not os.environ.get("VIF_DATA"):
        pytest.skip("Delicious is needed: set VIF_DATA to its folder")
    train, test = ranking.delicious()
    assert (train.x.shape, train.labels.shape, test.x.shape) == ((12920, 500), (12920, 983), (3185, 500))
    assert (train.x.nnz, train.labels.nnz, test.labels.nnz) == (239549, 246088, 60229)


@pytest.mark.parametrize("kind", ["ndcg", "top"])
def test_direct_and_parameter_effects_of_ranking_targets_stand_apart(kind):
    loss = items()
    params = vif.minimize(loss, loss.zeros())
    gains = torch.zeros(5, 5, dtype=torch.float64)
    for query, ranked in enumerate(LISTS):
        gains[query, ranked] = 1.0
    targets = {
        "ndcg": vif.losses.ndcg_change(loss, gains, k=2),
        "top": vif.losses.top_k_probability(loss, 3, k=2, n_draws=500),
    }
    target = targets[kind]
    truth, newton = vif.refit(loss, params, target), vif.newton_step(loss, params, target)
    now = target(params, torch.ones(5).double())
    for i in range(5):
        without = torch.ones(5).double()
        without[i] = 0.0
        torch.testing.assert_close(truth.direct[i], target(params, without) - now, atol=1e-7, rtol=1e-6)
        alone = target(vif.minimize(loss, params, without), without) - now
        torch.testing.assert_close(truth.scores[i], alone, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(newton.direct, truth.direct, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(newton.parameter, newton.scores - newton.direct)
    # The item itself leaves the list, which no parameter explains.
    assert (truth.direct[3].abs() > 0).any()
    if kind == "top":  # NDCG moves in steps
        assert (newton.parameter - truth.parameter).norm() <= 0.2 * truth.parameter.norm()


def test_a_missing_feature_of_a_regression_is_named_by_row_and_column():
    x = torch.ones(3, 2, dtype=torch.float64)
    x[1, 0] = float("nan")
    with pytest.raises(ValueError, match="row 1, column 0"):
        vif.losses.Linear(x)
    with pytest.raises(TypeError, match="got .a. in it.*Encode words"):
        vif.losses.ListMLELoss([["a", "b"]], [[0, 1]], n_items=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: vif.losses.PairwiseLoss([0, 1], [1, 2], x=torch.eye(3).double()),
        lambda: vif.losses.PairwiseLoss([0, 1], [1, 2], x=torch.eye(3), model=torch.nn.Linear(3, 1)),
        lambda: vif.losses.TripletLoss([[0, 1, 2]], x=torch.eye(3).double()),
        lambda: vif.losses.InfoNCELoss(data(1, 2, 4, 3)),
    ],
)
def test_ready_losses_can_be_sent_to_other_processes(make):
    loss = make()
    everyone = torch.ones(loss.n_objects).double()
    again = pickle.loads(pickle.dumps(loss))
    assert again(loss.zeros(), everyone) == loss(loss.zeros(), everyone)
