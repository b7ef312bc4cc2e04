//! `import -c` and `commit -c`: one Dockerfile instruction that changes a configuration.
//!
//! What it implements: the instructions that docker's `--change` takes (CMD, ENTRYPOINT, ENV,
//! EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR), in the JSON and the shell form.
//! Interface: [`apply_change`]. Read next: `describe.rs`.

use crate::error::{Error, Kind, Result};
use crate::spec::image::{Config, Empty};

/// Applies one instruction. Errors: it is none of those above, or lacks its argument.
pub fn apply_change(config: &mut Config, instruction: &str) -> Result<()> {
    let bad = |why: &str| {
        Error::kind(Kind::Usage, format!("the change {instruction:?} {why}"))
            .hint("for example: -c 'CMD [\"sh\"]' -c 'ENV A=b' -c 'WORKDIR /srv'")
    };
    let text = instruction.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(bad("has no argument"));
    }
    match word.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = exec_form(rest),
        "ENTRYPOINT" => config.entrypoint = exec_form(rest),
        "ENV" => {
            for (key, value) in pairs(rest).ok_or_else(|| bad("is not KEY=VALUE"))? {
                let prefix = format!("{key}=");
                config.env.retain(|e| !e.starts_with(&prefix));
                config.env.push(prefix + &value);
            }
        }
        "LABEL" => {
            let pairs = pairs(rest).ok_or_else(|| bad("is not KEY=VALUE"))?;
            config.labels.extend(pairs);
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                if number.parse::<u16>().is_err() || !["tcp", "udp", "sctp"].contains(&protocol) {
                    return Err(bad("names no port"));
                }
                let port = format!("{number}/{protocol}");
                config.exposed_ports.insert(port, Empty {});
            }
        }
        "VOLUME" => {
            let paths = json_list(rest)
                .unwrap_or_else(|| rest.split_whitespace().map(str::to_string).collect());
            config
                .volumes
                .extend(paths.into_iter().map(|p| (p, Empty {})));
        }
        "USER" => config.user = rest.into(),
        "WORKDIR" => {
            config.working_dir = match rest.starts_with('/') {
                true => rest.into(),
                false => format!("{}/{rest}", config.working_dir.trim_end_matches('/')),
            }
        }
        "STOPSIGNAL" => config.stop_signal = Some(rest.into()),
        "ONBUILD" => config.on_build.push(rest.into()),
        _ => return Err(bad("is no instruction that changes a configuration")),
    }
    Ok(())
}

fn json_list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())?
}

/// `["a", "b"]` as it is; other text is a line for the shell.
fn exec_form(text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

/// `A=b C="d e"`, or the old form `A b c` of one pair.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let words = words(text);
    if !words.first()?.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(key.into(), value.trim().into())]);
    }
    let split = |w: &String| {
        w.split_once('=')
            .map(|(k, v)| (k.to_string(), v.to_string()))
    };
    words.iter().map(split).collect()
}

/// Words with quotes and backslashes as in a Dockerfile.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (vec![], String::new(), None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', q) if q != Some('\'') => word.extend(chars.next()),
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => (quote, begun) = (Some(c), true),
            (c, None) if c.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (c, None) => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_configuration() {
        let mut c = Config::default();
        for change in [
            "CMD [\"a\", \"b c\"]",
            "entrypoint run me",
            "ENV A=1 B=\"two words\"",
            "ENV A 3",
            "EXPOSE 80 53/udp",
            "LABEL x=y",
            "WORKDIR /srv",
            "WORKDIR sub",
            "USER 1000:1000",
            "VOLUME /data /more",
            "STOPSIGNAL SIGINT",
        ] {
            apply_change(&mut c, change).unwrap();
        }
        assert_eq!(c.cmd, ["a", "b c"]);
        assert_eq!(c.entrypoint, ["/bin/sh", "-c", "run me"]);
        assert_eq!(c.env, ["B=two words", "A=3"]);
        assert_eq!(
            c.exposed_ports.keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp"]
        );
        assert_eq!(c.working_dir, "/srv/sub");
        assert_eq!(c.volumes.len(), 2);
        for bad in ["", "CMD", "RUN x", "EXPOSE no", "ENV alone"] {
            assert!(apply_change(&mut c, bad).is_err(), "{bad:?}");
        }
    }
}
