//! The comments of the .proto files, by descriptor.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, FileDescriptor};

/// Comments by file and path within it, paragraphs unwrapped.
#[derive(Debug, Default)]
pub(super) struct Comments {
    by_place: HashMap<(usize, Vec<i32>), String>,
}

impl Comments {
    /// Reads every comment; there are none where the descriptor set came without source info.
    pub(super) fn read(pool: &DescriptorPool) -> Self {
        let mut by_place = HashMap::new();
        for file in pool.files() {
            let Some(info) = &file.file_descriptor_proto().source_code_info else {
                continue;
            };
            for location in &info.location {
                let comment = location
                    .leading_comments
                    .as_deref()
                    .or(location.trailing_comments.as_deref());
                let comment = comment.map(unwrapped).unwrap_or_default();
                if !comment.is_empty() {
                    by_place.insert((file.index(), location.path.clone()), comment);
                }
            }
        }
        Self { by_place }
    }

    /// The comment at a descriptor's path.
    pub(super) fn of(&self, file: &FileDescriptor, path: &[i32]) -> Option<&str> {
        self.by_place
            .get(&(file.index(), path.to_vec()))
            .map(String::as_str)
    }
}

/// Joins the lines of each paragraph; lines that begin a list item or are indented stay lines.
fn unwrapped(comment: &str) -> String {
    let mut text = String::new();
    for line in comment.lines() {
        let line = line.strip_prefix(' ').unwrap_or(line).trim_end();
        let is_own_line = line.is_empty() || line.starts_with([' ', '\t', '-', '*', '|', '#', '`']);
        if line.is_empty() {
            if !text.is_empty() && !text.ends_with("\n\n") {
                text.push_str("\n\n");
            }
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push(if is_own_line { '\n' } else { ' ' });
        }
        text.push_str(line);
    }
    text.trim().to_owned()
}

/// A comment's first sentence, without its full stop, and the rest.
pub(super) fn split_summary(comment: &str) -> (&str, &str) {
    let (paragraph, rest) = comment.split_once("\n\n").unwrap_or((comment, ""));
    let line_end = paragraph.find('\n');
    let sentence_end = paragraph.find(". ").map(|index| index + 1);
    let end = [line_end, sentence_end].into_iter().flatten().min();
    match end.and_then(|end| comment.split_at_checked(end)) {
        Some((summary, rest)) => (summary.trim_end_matches('.'), rest.trim_start()),
        None => (paragraph.trim_end_matches('.'), rest.trim_start()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_unwrapped_and_lists_are_not() {
        assert_eq!(
            unwrapped(" A b\n c.\n\n D\n - e\n - f\n"),
            "A b c.\n\nD\n- e\n- f"
        );
        assert_eq!(unwrapped(""), "");
    }

    #[test]
    fn the_first_sentence_is_the_summary() {
        assert_eq!(
            split_summary("Reads it. Then more.\n\nRest."),
            ("Reads it", "Then more.\n\nRest.")
        );
        assert_eq!(split_summary("Reads it.\n\nRest."), ("Reads it", "Rest."));
        assert_eq!(split_summary("Reads 1.5 of it"), ("Reads 1.5 of it", ""));
    }
}
