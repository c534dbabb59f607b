//! What becomes of a row's sums: the same operations in the same order as ONNX Runtime's, so that the bits are the same.

use super::{
    ensemble::{Kind, Rule, Transform},
    walk::Sum,
};

impl Rule {
    /// Turns a row's sums into its answer.
    pub(super) fn answer(&self, sums: &mut [Sum], answer: &mut Vec<f32>) {
        match self.kind {
            Kind::Regressor { is_average } => self.regress(is_average, sums, answer),
            Kind::Classifier { .. } if self.outputs > 2 => {
                for (sum, base) in sums.iter_mut().zip(&self.base_values) {
                    *sum = Sum {
                        value: shown(*sum) + base,
                        is_there: true,
                    };
                }
                self.write(sums, answer);
            }
            Kind::Classifier {
                is_one_class,
                is_positive,
            } => {
                self.classify_two(is_one_class, is_positive, sums, answer);
            }
        }
    }

    fn regress(&self, is_average: bool, sums: &mut [Sum], answer: &mut Vec<f32>) {
        let count = self.trees as f32;
        for (at, sum) in sums.iter_mut().enumerate() {
            if is_average {
                sum.value /= count;
            }
            match self.base_values.get(at) {
                Some(base) => sum.value += base,
                None if self.outputs == 1 => sum.value += 0.0,
                None => {}
            }
        }
        match sums {
            [one] => answer.push(one.value),
            sums => self.write(sums, answer),
        }
    }

    /// Two classes: where the weights are of one of them, the other's probability is what is left.
    fn classify_two(
        &self,
        is_one_class: bool,
        is_positive: bool,
        sums: &mut [Sum],
        answer: &mut Vec<f32>,
    ) {
        let [first, second] = sums else { return };
        match self.base_values.as_slice() {
            [_, base] if second.is_there => {
                second.value = base + first.value;
                first.value = -second.value;
            }
            [other, base] => {
                second.value += base;
                first.value += other;
            }
            [base] => first.value += base,
            _ => {}
        }
        if second.is_there || self.base_values.len() == 2 {
            self.write(sums, answer);
            return;
        }
        let score = first.value;
        let is_known = is_one_class || self.base_values.is_empty();
        match (is_one_class && is_positive, self.transform) {
            _ if !is_known => answer.extend([score, 0.0]),
            (true, _) => answer.extend([1.0 - score, score]),
            (false, Transform::Logistic) => answer.extend([logistic(-score), logistic(score)]),
            (false, Transform::None | Transform::Softmax) => answer.extend([-score, score]),
        }
    }

    fn write(&self, sums: &[Sum], answer: &mut Vec<f32>) {
        let first = answer.len();
        answer.extend(sums.iter().map(|sum| shown(*sum)));
        let written = answer.get_mut(first..).unwrap_or_default();
        match self.transform {
            Transform::None => {}
            Transform::Logistic => written
                .iter_mut()
                .for_each(|value| *value = logistic(*value)),
            Transform::Softmax => softmax(written),
        }
    }
}

/// A sum, which is 0 as long as nothing was added.
fn shown(sum: Sum) -> f32 {
    if sum.is_there { sum.value } else { 0.0 }
}

fn logistic(value: f32) -> f32 {
    let positive = 1.0 / (1.0 + (-value.abs()).exp());
    if value < 0.0 {
        1.0 - positive
    } else {
        positive
    }
}

fn softmax(values: &mut [f32]) {
    let highest = values.iter().fold(
        f32::MIN,
        |highest, value| if *value > highest { *value } else { highest },
    );
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - highest).exp();
        sum += *value;
    }
    for value in values {
        *value /= sum;
    }
}
