//! Trees walked as they are laid out answer as the file's own questions do; what is not understood is refused by name. That
//! the bits are ONNX Runtime's own, tests/integration/compiled.rs shows.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::{
    CompiledLoader,
    ensemble::{Ensemble, Kind, Mode, Node, Rule, Split, Transform, Tree, Weight},
    file::{AttributeProto, FLOAT, GraphProto, NodeProto, TensorProto},
    graph,
    layout::{Layout, key},
    walk::Sum,
};
use crate::inference::{ModelFiles, RuntimeLoader, Signature};

const MODES: [Mode; 6] = [
    Mode::Leq,
    Mode::Lt,
    Mode::Gte,
    Mode::Gt,
    Mode::Eq,
    Mode::Neq,
];

/// Every kind of number that order and equality could go wrong at.
const NUMBERS: [f32; 14] = [
    f32::NAN,
    f32::NEG_INFINITY,
    f32::MIN,
    -1.5,
    -1.0e-45,
    -0.0,
    0.0,
    1.0e-45,
    1.0,
    1.500_000_1,
    2.0,
    f32::MAX,
    f32::INFINITY,
    -f32::NAN,
];

fn ensemble(trees: Vec<Tree>, outputs: usize) -> Ensemble {
    let rule = Rule {
        trees: trees.len(),
        kind: Kind::Regressor { is_average: false },
        transform: Transform::None,
        base_values: Vec::new(),
        outputs,
    };
    Ensemble { trees, rule }
}

fn leaf(value: f32) -> Node {
    Node::Leaf(vec![Weight { output: 0, value }])
}

/// What the leaves of a row add up to, by the layout.
fn walked(layout: &Layout, outputs: usize, row: &[f32], imputed: Option<&[f32]>) -> Vec<f32> {
    let mut keys = Vec::new();
    layout.keys(row, imputed, &mut keys);
    let mut sums = vec![Sum::default(); outputs];
    layout.add(&keys, &mut sums, outputs);
    sums.iter().map(|sum| sum.value).collect()
}

/// What the leaves of a row add up to, by the questions as they stand.
fn asked(ensemble: &Ensemble, row: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; ensemble.rule.outputs];
    for tree in &ensemble.trees {
        let mut at = 0;
        while let Node::Split(split) = &tree[at] {
            at = if is_true(split, row[split.column]) {
                split.if_true
            } else {
                split.if_false
            };
        }
        if let Node::Leaf(weights) = &tree[at] {
            for weight in weights {
                sums[weight.output] += weight.value;
            }
        }
    }
    sums
}

fn is_true(split: &Split, value: f32) -> bool {
    let threshold = split.threshold;
    let is_so = match split.mode {
        Mode::Leq => value <= threshold,
        Mode::Lt => value < threshold,
        Mode::Gte => value >= threshold,
        Mode::Gt => value > threshold,
        Mode::Eq => value == threshold,
        Mode::Neq => value != threshold,
    };
    is_so || (split.is_missing_true && value.is_nan())
}

#[test]
fn keys_are_in_the_order_of_their_numbers() {
    for one in NUMBERS {
        for other in NUMBERS {
            let (Some(first), Some(second)) = (key(one), key(other)) else {
                assert!(one.is_nan() || other.is_nan());
                continue;
            };
            assert_eq!(
                one.partial_cmp(&other),
                Some(first.cmp(&second)),
                "{one} {other}"
            );
        }
    }
}

#[test]
fn every_question_is_answered_as_the_file_asks_it() {
    for mode in MODES {
        for threshold in NUMBERS {
            for is_missing_true in [false, true] {
                let split = Split {
                    column: 1,
                    mode,
                    threshold,
                    is_missing_true,
                    if_true: 1,
                    if_false: 2,
                };
                let tree = vec![Node::Split(split), leaf(1.0), leaf(2.0)];
                let ensemble = ensemble(vec![tree], 1);
                let layout = Layout::new(&ensemble, 2).unwrap();
                for value in NUMBERS {
                    let row = [7.0, value];
                    assert_eq!(
                        walked(&layout, 1, &row, None),
                        asked(&ensemble, &row),
                        "{split:?} of {value}"
                    );
                }
            }
        }
    }
}

/// A tree of chance, whose nodes may be the children of several.
fn tree(random: &mut fastrand::Rng, outputs: usize) -> Tree {
    let count = random.usize(1..60);
    let nodes = (0..count).map(|at| {
        // Children come later: no circles.
        if at + 2 >= count || random.u32(..8) == 0 {
            let weights = (0..outputs).filter(|_| outputs == 1 || random.bool());
            let weights = weights.map(|output| Weight {
                output,
                value: output as f32 + at as f32,
            });
            return Node::Leaf(weights.collect());
        }
        Node::Split(Split {
            column: random.usize(..3),
            mode: MODES[random.usize(..MODES.len())],
            threshold: NUMBERS[random.usize(..NUMBERS.len())],
            is_missing_true: random.bool(),
            if_true: random.usize(at + 1..count),
            if_false: random.usize(at + 1..count),
        })
    });
    nodes.collect()
}

#[test]
fn forests_of_chance_are_walked_as_they_ask() {
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..300 {
        let outputs = 1 + round % 3;
        let trees = (0..random.usize(1..40)).map(|_| tree(&mut random, outputs));
        let ensemble = ensemble(trees.collect(), outputs);
        let layout = Layout::new(&ensemble, 3).unwrap();
        for _ in 0..20 {
            let row = [(); 3].map(|()| NUMBERS[random.usize(..NUMBERS.len())]);
            assert_eq!(walked(&layout, outputs, &row, None), asked(&ensemble, &row));
            let imputed = [1.0, -1.5, f32::NAN];
            let whole = std::array::from_fn::<f32, 3, _>(|at| {
                if row[at].is_nan() {
                    imputed[at]
                } else {
                    row[at]
                }
            });
            assert_eq!(
                walked(&layout, outputs, &row, Some(&imputed)),
                asked(&ensemble, &whole)
            );
        }
    }
}

fn named(name: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ..AttributeProto::default()
    }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        ints: ints.to_vec(),
        ..named(name)
    }
}

fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto {
        floats: floats.to_vec(),
        ..named(name)
    }
}

fn text(name: &str, text: &str) -> AttributeProto {
    AttributeProto {
        s: text.as_bytes().to_vec(),
        ..named(name)
    }
}

fn node(domain: &str, op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.to_owned()],
        op_type: op_type.to_owned(),
        domain: domain.to_owned(),
        attribute: Vec::new(),
    }
}

/// A tree of one question and two leaves, from "x" to "y".
fn regressor() -> NodeProto {
    let modes: [&[u8]; 3] = [b"BRANCH_LT", b"LEAF", b"LEAF"];
    NodeProto {
        attribute: vec![
            ints("nodes_treeids", &[0, 0, 0]),
            ints("nodes_nodeids", &[0, 1, 2]),
            ints("nodes_featureids", &[1, 0, 0]),
            ints("nodes_truenodeids", &[1, 0, 0]),
            ints("nodes_falsenodeids", &[2, 0, 0]),
            floats("nodes_values", &[0.5, 0.0, 0.0]),
            AttributeProto {
                strings: modes.map(<[u8]>::to_vec).to_vec(),
                ..named("nodes_modes")
            },
            AttributeProto {
                i: 1,
                ..named("n_targets")
            },
            ints("target_treeids", &[0, 0]),
            ints("target_nodeids", &[1, 2]),
            ints("target_ids", &[0, 0]),
            floats("target_weights", &[1.0, 2.0]),
        ],
        ..node("ai.onnx.ml", "TreeEnsembleRegressor", &["x"], "y")
    }
}

fn with(attribute: AttributeProto) -> NodeProto {
    let mut node = regressor();
    node.attribute.retain(|other| other.name != attribute.name);
    node.attribute.push(attribute);
    node
}

fn read(nodes: Vec<NodeProto>, output: &str) -> crate::error::Result<graph::Program> {
    let two = TensorProto {
        data_type: FLOAT,
        name: "two".into(),
        float_data: vec![2.0],
        ..TensorProto::default()
    };
    let many = TensorProto {
        name: "many".into(),
        float_data: vec![2.0, 3.0],
        ..two.clone()
    };
    let graph = GraphProto {
        node: nodes,
        initializer: vec![two, many],
    };
    let program = graph::read(&graph, "x", 2, output)?;
    Layout::new(&program.ensemble, 2)?;
    Ok(program)
}

fn refusal(nodes: Vec<NodeProto>, output: &str) -> String {
    read(nodes, output).unwrap_err().to_string()
}

#[test]
fn what_exporters_put_around_trees_is_followed() {
    let mut imputer = node("ai.onnx.ml", "Imputer", &["x"], "whole");
    imputer.attribute = vec![
        floats("imputed_value_floats", &[3.0]),
        AttributeProto {
            f: f32::NAN,
            ..named("replaced_value_float")
        },
    ];
    let mut trees = regressor();
    trees.input = vec!["same".into()];
    let nodes = vec![
        imputer,
        node("", "Identity", &["whole"], "same"),
        trees,
        node("", "Mul", &["y", "two"], "doubled"),
        node("ai.onnx", "Identity", &["doubled"], "z"),
    ];
    let program = read(nodes, "z").unwrap();
    assert_eq!(program.matrix, "same");
    assert_eq!(program.imputed, Some(vec![3.0, 3.0]));
    assert_eq!(program.factors, [2.0]);
    assert_eq!(program.ensemble.trees.len(), 1);
}

#[test]
fn operators_that_are_not_understood_are_refused_by_name() {
    let trees = regressor();
    for (nodes, output, part) in [
        (
            vec![node("", "Sigmoid", &["y"], "z"), trees.clone()],
            "z",
            "cannot run the operator Sigmoid",
        ),
        (
            vec![node("", "Mul", &["y", "many"], "z"), trees.clone()],
            "z",
            "another Mul",
        ),
        (
            vec![node("", "Mul", &["y", "y"], "z"), trees.clone()],
            "z",
            "another Mul",
        ),
        (
            vec![node("ai.onnx.ml", "Imputer", &["w"], "x")],
            "x",
            "cannot run the operator Imputer",
        ),
        (
            vec![node("ai.onnx.ml", "TreeEnsemble", &["x"], "y")],
            "y",
            "cannot run the operator TreeEnsemble",
        ),
        (vec![trees.clone()], "other", "no node that gives \"other\""),
        (vec![], "y", "no node that gives \"y\""),
    ] {
        let told = refusal(nodes, output);
        assert!(told.contains(part), "{part} in {told}");
        assert!(told.contains("leave runtime out of model.toml"), "{told}");
    }
    let mut scaled = trees.clone();
    scaled.input = vec!["w".into()];
    let told = refusal(
        vec![node("ai.onnx.ml", "Scaler", &["x"], "w"), scaled.clone()],
        "y",
    );
    assert!(told.contains("cannot run the operator Scaler"), "{told}");
    let told = refusal(
        vec![node("ai.onnx.ml", "Imputer", &["x"], "w"), scaled.clone()],
        "y",
    );
    assert!(told.contains("another Imputer"), "{told}");
    // A circle of nodes is followed once around at the most.
    let told = refusal(vec![node("", "Identity", &["w"], "w"), scaled], "y");
    assert!(told.contains("goes in circles"), "{told}");
}

#[test]
fn attributes_that_do_not_go_together_are_refused() {
    for (changed, part) in [
        (
            floats("base_values_as_tensor", &[]),
            "base_values_as_tensor",
        ),
        (
            floats("base_values", &[1.0, 2.0]),
            "2 base values for 1 outputs",
        ),
        (text("post_transform", "PROBIT"), "post_transform PROBIT"),
        (text("aggregate_function", "MAX"), "aggregate_function MAX"),
        (ints("nodes_featureids", &[2, 0, 0]), "node 0 of tree 0"),
        (ints("nodes_truenodeids", &[5, 0, 0]), "node 0 of tree 0"),
        (ints("nodes_truenodeids", &[0, 0, 0]), "goes in circles"),
        (ints("nodes_nodeids", &[0, 1, 1]), "a node of tree 0 twice"),
        (ints("nodes_treeids", &[0, 1, 0]), "node 0 of tree 0"),
        (ints("nodes_featureids", &[1]), "differ in length"),
        (ints("target_ids", &[0]), "differ in length"),
        (ints("target_ids", &[0, 1]), "none of the 1 outputs"),
        (ints("target_nodeids", &[1, 1]), "one value each"),
        (
            AttributeProto {
                strings: vec![
                    b"BRANCH_MEMBER".to_vec(),
                    b"LEAF".to_vec(),
                    b"LEAF".to_vec(),
                ],
                ..named("nodes_modes")
            },
            "node 0 of tree 0",
        ),
    ] {
        let shown = changed.name.clone();
        let told = refusal(vec![with(changed)], "y");
        assert!(told.contains(part), "{shown}: {part} in {told}");
    }
    // Two trees whose nodes are mixed.
    let mut mixed = regressor();
    for attribute in &mut mixed.attribute {
        match attribute.name.as_str() {
            "nodes_treeids" => attribute.ints = vec![0, 1, 0],
            "nodes_nodeids" => attribute.ints = vec![0, 0, 1],
            "nodes_modes" => attribute.strings = vec![b"LEAF".to_vec(); 3],
            _ => {}
        }
    }
    let told = refusal(vec![mixed], "y");
    assert!(told.contains("tree 0 in two places"), "{told}");
}

#[test]
fn a_tree_that_is_too_large_is_refused() {
    // Each leaf adds a node and a level: far more than a tree may have.
    let chain = |splits: usize| {
        let nodes = (0..splits).flat_map(|at| {
            let split = Split {
                column: 0,
                mode: Mode::Lt,
                threshold: 0.0,
                is_missing_true: false,
                if_true: 2 * at + 1,
                if_false: 2 * at + 2,
            };
            [Node::Split(split), leaf(1.0)]
        });
        let tree: Tree = nodes.chain([leaf(2.0)]).collect();
        Layout::new(&ensemble(vec![tree], 1), 1)
    };
    assert!(chain(900).is_ok());
    let told = chain(1_100).unwrap_err().to_string();
    assert!(told.contains("deeper than 1000 steps"), "{told}");
    let heap = |splits: usize| {
        let split = |at| Split {
            column: 0,
            mode: Mode::Lt,
            threshold: 0.0,
            is_missing_true: false,
            if_true: 2 * at + 1,
            if_false: 2 * at + 2,
        };
        let inner = (0..splits).map(|at| Node::Split(split(at)));
        let tree: Tree = inner.chain((0..=splits).map(|_| leaf(1.0))).collect();
        Layout::new(&ensemble(vec![tree], 1), 1)
    };
    assert!(heap(30_000).is_ok());
    let told = heap(35_000).unwrap_err().to_string();
    assert!(told.contains("tree 0 too large"), "{told}");
    let wide = vec![
        Node::Split(Split {
            column: 69_999,
            mode: Mode::Lt,
            threshold: 0.0,
            is_missing_true: false,
            if_true: 1,
            if_false: 2,
        }),
        leaf(1.0),
        leaf(2.0),
    ];
    let told = Layout::new(&ensemble(vec![wide], 1), 70_000).unwrap_err();
    assert!(told.to_string().contains("too large"), "{told}");
}

#[test]
fn files_of_another_runtime_are_refused() {
    let signature = Signature::parse(include_str!(
        "../../../tests/data/models/lightgbm_binary/1/signature.json"
    ));
    let files = ModelFiles {
        model: b"tree",
        explain: None,
    };
    let refused = CompiledLoader.load(files, &signature.unwrap(), 1).err();
    let told = refused.unwrap().to_string();
    assert!(told.contains("this one says \"lightgbm\""), "{told}");
}
