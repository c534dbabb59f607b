//! Measures how deep a JSON text is nested, without parsing it: the bound must hold before anything recurses.

/// Whether the text has more than `depth_max` brackets open at once, outside strings.
pub(crate) fn depth_exceeds(json: &[u8], depth_max: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert!(!depth_exceeds(br#"{"a":"[[[[\"[["}"#, 1));
        assert!(!depth_exceeds(b"[[],[],{}]", 2));
        assert!(depth_exceeds(b"[[[]]]", 2));
        assert!(depth_exceeds(&[b'['; 100_000], 30));
    }
}
