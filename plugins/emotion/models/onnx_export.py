"""A model as ONNX: scaler → linear scores per emotion → classifier → calibration, in one graph.

The graph is made of standard operators; no code of this project runs in it. It computes in double precision what the
library computes in single precision, but for the scaler, whose rounding it repeats. So its probabilities are those of
the library to within 1e-5, unless a linear score lies within rounding (about 1e-6 of its size) of a tree's threshold:
there one tree may answer with another leaf. The library has the same limit: a score depends on the order in which a
matrix product is summed. Thresholds stay double, and scores are rounded to single precision before they are compared,
as in scikit-learn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion.errors import ConfigurationError
from emotion.models.bundle import Bundle, models_of
from emotion.models.classifier import LEAST_PROBABILITY, Classifier, Ensemble
from emotion.vocabulary import Mode, emotion_codes

if TYPE_CHECKING:
    import onnx

INPUT, PROBABILITIES, LABEL = "features", "probabilities", "label"
OPSETS = {"": 17, "ai.onnx.ml": 3}
"""Versions of the operators: onnxruntime 1.14 and later knows them."""
IR_VERSION = 8


def to_onnx(bundle: Bundle, mode: Mode, *, version: str, recipe: str) -> bytes:
    """The classifier of one mode as an ONNX model.

    Parameters
    ----------
    bundle : Bundle
    mode : str
        For ``batch`` and ``speaker``, the input must be normalized already: that is no part of the graph.
    version, recipe : str
        Of the model and of its features. Written into the model, with the family, the mode, the names of features and
        emotions, and the temperatures.

    Returns
    -------
    bytes
        A model with the input ``features``, float32 (n, n_features), in the order of the bundle's names, and the
        outputs ``probabilities``, float32 (n, n_emotions), and ``label``, string (n,).

    Raises
    ------
    ConfigurationError
        If the package onnx is not installed.
    """
    onnx = _require_onnx()
    model = models_of(bundle)[mode]
    members = model.members if isinstance(model, Ensemble) else [model]
    graph = _Graph(onnx)
    member_probabilities = [_probabilities(graph, member) for member in members]
    total = graph.add("Sum", member_probabilities)
    mean = graph.add("Div", [total, graph.constant(np.array(len(members), dtype=np.float64))])
    best = graph.add("ArgMax", [mean], axis=1, keepdims=0)
    graph.add("Gather", [graph.constant(np.array(model.label_set, dtype=object)), best], output=LABEL)
    graph.add("Cast", [mean], output=PROBABILITIES, to=onnx.TensorProto.FLOAT)
    facts = {
        "version": version,
        "family": bundle["family"],
        "mode": mode,
        "recipe": recipe,
        "feature_names": bundle["feature_names"],
        "emotions": model.label_set,
        "temperature": {member.family: member.temperature for member in members},
    }
    exported = graph.model(
        features=len(bundle["feature_names"]),
        emotions=len(model.label_set),
        facts={name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()},
    )
    onnx.checker.check_model(exported, full_check=True)
    return exported.SerializeToString()


def _require_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ConfigurationError(
            f"the package onnx is needed for an export and cannot be imported ({error}); install it with `make onnx` "
            "or pip install -r requirements-onnx.txt"
        ) from None
    return onnx


class _Graph:
    """The nodes and constants of a graph that is being built."""

    def __init__(self, onnx: Any):
        self._onnx = onnx
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(
        self, operator: str, inputs: Sequence[str], *, output: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Add a node; returns the name of its output."""
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def constant(self, values: np.ndarray) -> str:
        """Add a constant; returns its name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def tensor(self, values: np.ndarray) -> onnx.TensorProto:
        """Numbers as the attribute of a node, in double precision."""
        return self._onnx.numpy_helper.from_array(np.asarray(values, dtype=np.float64))

    def as_double(self, name: str) -> str:
        """A value in double precision."""
        return self.add("Cast", [name], to=self._onnx.TensorProto.DOUBLE)

    def linear(self, rows: str, coefficients: np.ndarray, intercept: np.ndarray) -> str:
        """rows @ coefficients + intercept, in double precision; coefficients are stored as they are."""
        product = self.add("MatMul", [rows, self.as_double(self.constant(coefficients))])
        return self.add("Add", [product, self.as_double(self.constant(intercept))])

    def model(self, *, features: int, emotions: int, facts: dict[str, str]) -> onnx.ModelProto:
        """The model of all nodes, with facts about it."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        graph = helper.make_graph(
            self._nodes,
            "emotion",
            [helper.make_tensor_value_info(INPUT, types.FLOAT, ["n", features])],
            [
                helper.make_tensor_value_info(PROBABILITIES, types.FLOAT, ["n", emotions]),
                helper.make_tensor_value_info(LABEL, types.STRING, ["n"]),
            ],
            self._constants,
        )
        opsets = [helper.make_opsetid(domain, number) for domain, number in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="emotion", ir_version=IR_VERSION)
        helper.set_model_props(model, facts)
        return model


def _probabilities(graph: _Graph, model: Classifier) -> str:
    """Calibrated probabilities, double (n, len(label_set)), as :meth:`Classifier.predict_proba` computes them."""
    scaler, projection, classifier = (step for _, step in model.pipeline.steps)
    centred = graph.add("Sub", [INPUT, graph.constant(scaler.mean_.astype(np.float32))])
    rows = graph.add("Div", [centred, graph.constant(scaler.scale_.astype(np.float32))])
    exact = graph.linear(graph.as_double(rows), projection.coef_, projection.intercept_)
    scores = graph.as_double(graph.add("Cast", [exact], to=1))  # to single precision, as trees are fitted on it
    if model.family == "logistic_regression":
        logits = graph.linear(scores, classifier.coef_.T.copy(), classifier.intercept_)
    elif model.family == "random_forest":
        trees = [tree.tree_ for tree in classifier.estimators_]
        weight = 1 / len(trees)
        shares = _trees(graph, scores, [(tree, tree.value[:, 0, :] * weight) for tree in trees])
        least = graph.constant(np.array(LEAST_PROBABILITY))
        logits = graph.add("Log", [graph.add("Max", [shares, least])])
    else:
        logits = _boosted(graph, scores, classifier)
    if len(model.emotions) == 2 and model.family != "random_forest":  # margins of the second emotion
        logits = graph.add("MatMul", [logits, graph.constant(np.array([[-0.5, 0.5]]))])
    divided = graph.add("Div", [logits, graph.constant(np.array(model.temperature, dtype=np.float64))])
    probabilities = graph.add("Softmax", [divided], axis=1)
    if model.emotions == model.label_set:
        return probabilities
    columns = np.zeros((len(model.emotions), len(model.label_set)))
    columns[np.arange(len(model.emotions)), emotion_codes(model.emotions, model.label_set)] = 1
    return graph.add("MatMul", [probabilities, graph.constant(columns)])


def _boosted(graph: _Graph, scores: str, classifier: Any) -> str:
    """The margins of gradient boosting, double (n, n_emotions), or (n, 1) of two emotions."""
    stages = classifier.estimators_
    trees = []
    for column in range(stages.shape[1]):
        for stage in stages[:, column]:
            weights = np.zeros((stage.tree_.node_count, stages.shape[1]))
            weights[:, column] = classifier.learning_rate * stage.tree_.value[:, 0, 0]
            trees.append((stage.tree_, weights))
    # what every row starts from: the margins of any row without those of its trees
    row = np.zeros((1, classifier.n_features_in_), dtype=np.float32)
    start = classifier.decision_function(row).reshape(1, -1) - sum(
        weights[tree.apply(row)[0]] for tree, weights in trees
    )
    return graph.add("Add", [_trees(graph, scores, trees), graph.constant(start)])


def _trees(graph: _Graph, rows: str, trees: Sequence[tuple[Any, np.ndarray]]) -> str:
    """The sum over trees of the weights of the leaf that a row falls into, double (n, n_targets).

    ``trees``: scikit-learn trees, each with the weights (n_nodes, n_targets) of its nodes.
    """
    sizes = [tree.node_count for tree, _ in trees]
    inner = np.concatenate([tree.children_left >= 0 for tree, _ in trees])
    targets = trees[0][1].shape[1]
    tree_ids, node_ids = np.repeat(np.arange(len(trees)), sizes), np.concatenate([np.arange(size) for size in sizes])
    leaves = np.flatnonzero(~inner)

    def of_nodes(name: str) -> np.ndarray:
        """A figure of each node; 0 for leaves."""
        return np.where(inner, np.concatenate([getattr(tree, name) for tree, _ in trees]), 0)

    summed = graph.add(
        "TreeEnsembleRegressor",
        [rows],
        domain="ai.onnx.ml",
        n_targets=targets,
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_featureids=of_nodes("feature").tolist(),
        nodes_truenodeids=of_nodes("children_left").tolist(),
        nodes_falsenodeids=of_nodes("children_right").tolist(),
        nodes_modes=np.where(inner, "BRANCH_LEQ", "LEAF").tolist(),
        nodes_values_as_tensor=graph.tensor(of_nodes("threshold")),
        target_treeids=np.repeat(tree_ids[leaves], targets).tolist(),
        target_nodeids=np.repeat(node_ids[leaves], targets).tolist(),
        target_ids=np.tile(np.arange(targets), len(leaves)).tolist(),
        target_weights_as_tensor=graph.tensor(np.concatenate([weights for _, weights in trees])[leaves].ravel()),
    )
    return graph.as_double(summed)
