//! Placeholders in the labs' texts: `{name}` becomes its value.
//!
//! What it does: replaces what it has a value for and leaves the rest alone, braces of shell code
//! included. Interface: [`fill`]. Read next: `attempt.rs`.

/// The text with each `{name}` that `value` knows replaced.
pub(super) fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out += &rest[..open];
        let after = &rest[open + 1..];
        let name = after.split_once('}').map(|(name, _)| name);
        match name.and_then(|n| value(n).map(|v| (n, v))) {
            Some((name, value)) => {
                out += &value;
                rest = &after[name.len() + 1..];
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_filled_and_others_stay() {
        let value = |n: &str| (n == "a").then(|| "1".to_string());
        assert_eq!(fill("{a}-{b}-${a} { {a}", value), "1-{b}-$1 { 1");
    }
}
