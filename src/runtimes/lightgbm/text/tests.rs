#![allow(clippy::unwrap_used)]
use super::*;

/// Three splits, the last one of categories, and a tree of one leaf.
const GOOD: &str = "tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=2
objective=binary sigmoid:1
feature_names=a b c
feature_infos=[0:1] [0:1] 0:1:2
tree_sizes=1 2

Tree=0
num_leaves=4
num_cat=1
split_feature=0 1 2
split_gain=1 inf 3
threshold=0.5 1.5 0
decision_type=2 10 1
left_child=1 -1 -2
right_child=2 -3 -4
leaf_value=0.1 -0.2 0.3 -0.4
leaf_weight=1 1 1 1
leaf_count=1 1 1 1
internal_value=0 0 0
internal_weight=1 1 1
internal_count=4 2 2
cat_boundaries=0 1
cat_threshold=5
is_linear=0
shrinkage=1

Tree=1
num_leaves=1
num_cat=0
split_feature=
leaf_value=0.25
is_linear=0
shrinkage=0.1

end of trees

feature_importances:
a=1

parameters:
[boosting: gbdt]
end of parameters
";

fn refusal(text: &str) -> String {
    check(text.as_bytes()).unwrap_err().to_string()
}

/// The good text with one thing changed.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn a_whole_model_is_written_anew_and_says_the_same() {
    let checked = check(GOOD.as_bytes()).unwrap();
    assert_eq!((checked.features, checked.classes), (3, 1));
    let again = check(checked.text().as_bytes()).unwrap();
    assert_eq!(again, checked);
    assert!(checked.text().contains("threshold=0.5 1.5 0\n"));
    // What takes no part does not reach the library.
    for dropped in ["split_gain", "parameters", "tree_sizes", "=a b c"] {
        assert!(!checked.text().contains(dropped), "{dropped}");
    }
    assert_eq!(
        check(GOOD.replace('\n', "\r\n").as_bytes()).unwrap(),
        checked
    );
    // All but missing values go one way.
    assert!(check(with("threshold=0.5 1.5", "threshold=inf 1.5").as_bytes()).is_ok());
}

#[test]
fn every_broken_field_is_named() {
    for (from, to, fault) in [
        ("tree\n", "bush\n", "no LightGBM text model"),
        ("version=v4", "version=v9", "version \"v9\""),
        ("num_class=1", "num_class=0", "num_class"),
        ("num_class=1", "num_class=-1", "num_class"),
        ("num_class=1", "num_class=99999999999999999999", "num_class"),
        (
            "num_tree_per_iteration=1",
            "num_tree_per_iteration=2",
            "num_tree_per_iteration",
        ),
        (
            "max_feature_idx=2",
            "max_feature_idx=2000000000",
            "max_feature_idx",
        ),
        (
            "max_feature_idx=2",
            "max_feature_idx=3",
            "feature_names: 3 for 4",
        ),
        (
            "objective=binary sigmoid:1",
            "objective=binary sigmoid:0",
            "objective",
        ),
        (
            "objective=binary sigmoid:1",
            "objective=multiclass num_class:3",
            "num_class",
        ),
        (
            "label_index=0",
            "label_index=0\nlabel_index=0",
            "there twice",
        ),
        ("label_index=0", "surprise=1", "\"surprise\""),
        ("Tree=0", "Tree=7", "called \"7\""),
        (
            "num_leaves=4",
            "num_leaves=5",
            "leaf_value: 4 numbers, where 5",
        ),
        ("num_leaves=4", "num_leaves=2000000000", "num_leaves"),
        ("num_leaves=4", "num_leaves=0", "num_leaves"),
        ("num_leaves=4\n", "", "no num_leaves"),
        ("num_cat=1", "num_cat=4", "num_cat"),
        (
            "num_cat=1",
            "num_cat=2",
            "cat_boundaries: 2 numbers, where 3",
        ),
        ("num_cat=1", "num_cat=0", "none of the 0 sets"),
        (
            "split_feature=0 1 2",
            "split_feature=0 1 3",
            "split_feature: \"3\"",
        ),
        (
            "split_feature=0 1 2",
            "split_feature=0 -1 2",
            "split_feature: \"-1\"",
        ),
        (
            "threshold=0.5 1.5 0",
            "threshold=0.5 1.5 1",
            "none of the 1 sets",
        ),
        (
            "threshold=0.5 1.5 0",
            "threshold=0.5 1.5 0.5",
            "none of the 1 sets",
        ),
        (
            "threshold=0.5 1.5 0",
            "threshold=0.5 nan 0",
            "threshold: \"nan\"",
        ),
        (
            "threshold=0.5 1.5 0",
            "threshold=0.5 1e999 0",
            "no finite number",
        ),
        (
            "threshold=0.5 1.5 0",
            "threshold=0.5 0x1p3 0",
            "no finite number",
        ),
        (
            "decision_type=2 10 1",
            "decision_type=2 10 15",
            "decision_type",
        ),
        ("left_child=1 -1 -2", "left_child=0 -1 -2", "no tree"),
        ("left_child=1 -1 -2", "left_child=2 -1 -2", "no tree"),
        ("left_child=1 -1 -2", "left_child=1 -1 -1", "no tree"),
        ("left_child=1 -1 -2", "left_child=-2 -1 -1", "no path"),
        (
            "left_child=1 -1 -2",
            "left_child=1 -5 -2",
            "left_child: \"-5\"",
        ),
        (
            "left_child=1 -1 -2",
            "left_child=3 -1 -2",
            "left_child: \"3\"",
        ),
        (
            "leaf_value=0.1 -0.2",
            "leaf_value=inf -0.2",
            "leaf_value: \"inf\"",
        ),
        ("leaf_value=0.1 -0.2", "leaf_weight=0.1 -0.2", "twice"),
        ("leaf_count=1 1 1 1", "leaf_count=1 1 1 -1", "leaf_count"),
        ("cat_boundaries=0 1", "cat_boundaries=1 1", "cat_boundaries"),
        ("cat_boundaries=0 1", "cat_boundaries=0 9", "cat_boundaries"),
        (
            "cat_threshold=5",
            "cat_threshold=4294967296",
            "cat_threshold",
        ),
        ("cat_threshold=5\n", "", "no cat_threshold"),
        ("is_linear=0", "is_linear=1", "linear_tree=false"),
        ("is_linear=0", "is_odd=0", "\"is_odd\" is not known"),
        ("is_linear=0", "no equals sign", "no key=value"),
        ("end of trees", "end of forest", "cut short"),
    ] {
        let message = refusal(&with(from, to));
        assert!(message.contains(fault), "{to}: {fault} in {message}");
    }
}

#[test]
fn splits_that_no_path_leads_to_are_refused() {
    // Split 1 and 2 have each other and are not reached.
    let text = with("left_child=1 -1 -2", "left_child=-1 2 -2")
        .replace("right_child=2 -3 -4", "right_child=-3 -4 1");
    let message = refusal(&text);
    assert!(
        message.contains("tree 0") && message.contains("no path"),
        "{message}"
    );
}

#[test]
fn a_path_of_too_many_splits_is_refused() {
    let splits = 1_200;
    let chain = |number: &dyn Fn(i64) -> i64| {
        let words: Vec<String> = (0..splits).map(|at| number(at).to_string()).collect();
        words.join(" ")
    };
    let zeros = vec!["0"; 1_200].join(" ");
    let last = splits - 1;
    let tree = format!(
        "num_leaves=1201\nnum_cat=0\nsplit_feature={zeros}\nthreshold={zeros}\ndecision_type={zeros}\n\
         left_child={}\nright_child={}\nleaf_value=0 {zeros}\n",
        chain(&|at| if at == last { -1 } else { at + 1 }),
        chain(&|at| -at - 2),
    );
    let (before, rest) = GOOD.split_once("Tree=0\n").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let message = refusal(&format!("{before}Tree=0\n{tree}\n{after}"));
    assert!(message.contains("more than 1000 splits"), "{message}");
}

#[test]
fn any_part_of_a_model_alone_is_refused() {
    let end = GOOD.find("end of trees").unwrap() + "end of trees".len();
    for length in 0..end {
        if let Some(cut) = GOOD.get(..length) {
            assert!(check(cut.as_bytes()).is_err(), "{length} bytes");
        }
    }
    for bytes in [&b""[..], b"\xff\xfe", b"tree", b"tree\n\0", b"Tree=0\n"] {
        assert!(check(bytes).is_err());
    }
}

/// Real models, every byte of which is changed in turn: refused, or read as a model that can be walked.
#[test]
fn a_changed_byte_is_refused_or_harmless() {
    let model = include_bytes!("../../../../tests/data/models/lightgbm_categories/1/model.txt");
    assert!(check(model).is_ok());
    let whole = check(model).unwrap();
    let end = whole.text().len();
    let mut refused = 0;
    for at in (0..end).step_by(23) {
        let mut bytes = whole.text().into_bytes();
        for byte in [b'9', b'-', b' ', b'\n', b'='] {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            match check(&bytes) {
                Err(_) => refused += 1,
                Ok(checked) => {
                    let booster = lightgbm3::Booster::from_string(&checked.text()).unwrap();
                    let row = vec![1.0; checked.features];
                    let answer = booster.predict(&row, 8, true).unwrap();
                    assert_eq!(answer.len(), 1);
                }
            }
        }
    }
    assert!(refused > 1_000, "only {refused} were refused");
}
