//! What a server that answers 401 wants: the header WWW-Authenticate.
//!
//! What it implements: RFC 9110, section 11.6.1 (a list of challenges, each a scheme with
//! parameters, where the comma separates both), quoted strings of section 5.6.4; RFC 6750,
//! section 3. Interface: [`parse`], [`Challenge`]. Read next: `mod.rs`.

/// One thing that the server would accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// `bearer`, `basic`, in lower case.
    pub scheme: String,
    /// Names in lower case, and values.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// The challenges of one header, as far as they can be understood.
pub fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return challenges;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        let value = spaced
            .strip_prefix('=')
            .map(|v| v.trim_start_matches([' ', '\t']));
        match (value, challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = match value.strip_prefix('"') {
                    Some(quoted) => string(quoted),
                    None => {
                        let (value, after) = token(value);
                        (value.to_string(), after)
                    }
                };
                challenge.parameters.push((word.to_lowercase(), value));
                // Whatever stands before the next comma is not understood.
                rest = &after[after.find(',').unwrap_or(after.len())..];
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge {
                    scheme: word.to_lowercase(),
                    parameters: vec![],
                });
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c);
    text.split_at(text.find(|c| !legal(c)).unwrap_or(text.len()))
}

/// A quoted string's content, after its first quote.
fn string(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_and_their_parameters_are_told_apart() {
        let found = parse(
            "Basic realm=\"a \\\"b\\\", c\", Bearer realm=\"https://t.example/token\",service=reg , \
             scope=\"repository:a:pull,push\"",
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get("realm"), Some("a \"b\", c"));
        assert_eq!(found[1].scheme, "bearer");
        assert_eq!(found[1].get("service"), Some("reg"));
        assert_eq!(found[1].get("scope"), Some("repository:a:pull,push"));
        assert_eq!(parse("Negotiate, Basic realm=x").len(), 2);
    }

    #[test]
    fn nonsense_is_no_challenge_and_ends() {
        for text in [
            "",
            ",,,",
            "=",
            "\"",
            "a=\"b",
            "Basic realm=\"unfinished",
            "\u{7f}",
        ] {
            parse(text);
        }
        assert!(parse("realm=x").is_empty());
    }
}
