//! Docker's `--format`: the part of Go's templates that people use, over JSON values.
//!
//! What it implements: the `text/template` syntax of Go as docker's command line offers it:
//! `{{.A.B}}`, `{{.}}`, `{{$}}`, pipelines (`{{.A | json}}`), parentheses, literals,
//! `{{if}}`/`{{else if}}`/`{{else}}`, `{{range}}` (also `$i, $v :=` and `{{else}}`), `{{with}}`,
//! variables, comments, trim markers (`{{-`, `-}}`), and these functions: `json`, `index`, `len`,
//! `upper`, `lower`, `title`, `join`, `split`, `truncate`, `pad`, `print`, `println`, `printf`
//! (`%s %v %d %q %%`), `eq ne lt le gt ge`, `and or not`, `table` as a prefix of listings.
//!
//! Differences from Go, both in the user's favour: a field that does not exist is an error that
//! names the position and the fields that do (except below keys whose entries are data, such as
//! `Labels`, where it is `<no value>`); and every value is JSON, so `{{.State}}` prints
//! `map[Pid:12 …]`.
//!
//! Interface: [`render`] for one value (`inspect -f`), [`rows`] for listings (`ps --format`).
//! Read next: `parse.rs`, then `eval.rs`.

mod eval;
mod functions;
mod parse;

use crate::error::{Error, Kind, Result};
use serde_json::Value;

/// Fills in `template` with `value`. No newline is added.
///
/// Errors ([`Kind::Usage`]): the template's syntax, an unknown field or function, a wrong
/// argument; each names the character of the template that it is about.
///
/// ```
/// let v = serde_json::json!({"State": {"Pid": 12}, "Names": ["a", "b"]});
/// let text = glassbox::ui::template::render("{{.State.Pid}} {{join .Names \",\"}}", &v).unwrap();
/// assert_eq!(text, "12 a,b");
/// ```
pub fn render(template: &str, value: &Value) -> Result<String> {
    let tree = parse::parse(template).map_err(|e| e.into_error(template))?;
    eval::run(&tree, value).map_err(|e| e.into_error(template))
}

/// A listing: `template` once for each row, one line each. With the prefix `table ` the cells
/// (separated by tabs) are aligned under headings: a field's heading comes from `headings`
/// (field → heading), else it is the field's name in upper case. As in docker, a backslash and
/// `t` or `n` in the template stand for a tab and a newline; `json` alone prints each row as JSON.
///
/// Errors: as [`render`].
pub fn rows(template: &str, rows: &[Value], headings: &[(&str, &str)]) -> Result<String> {
    let template = template.trim().replace("\\t", "\t").replace("\\n", "\n");
    if template == "json" {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        return Ok(lines.join("\n"));
    }
    let (is_table, body) = match template.strip_prefix("table") {
        Some(rest) if rest.is_empty() || rest.starts_with([' ', '\t', '{']) => (true, rest.trim()),
        _ => (false, template.as_str()),
    };
    let tree = parse::parse(body).map_err(|e| e.into_error(body))?;
    let mut lines = Vec::new();
    if is_table {
        lines.push(eval::headings(&tree, headings));
    }
    for row in rows {
        lines.push(eval::run(&tree, row).map_err(|e| e.into_error(body))?);
    }
    Ok(if is_table {
        align(&lines)
    } else {
        lines.join("\n")
    })
}

/// Pads the tab-separated cells so that columns line up, three spaces apart, as docker does.
fn align(lines: &[String]) -> String {
    let cells: Vec<Vec<&str>> = lines.iter().map(|l| l.split('\t').collect()).collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| {
        cells
            .iter()
            .filter_map(|row| row.get(i))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<&str>| {
        let mut text = String::new();
        for (i, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if i + 1 < row.len() {
                let gap = widths[i] - cell.chars().count() + 3;
                text.push_str(&" ".repeat(gap));
            }
        }
        text.trim_end().to_string()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What went wrong, and at which byte of the template.
#[derive(Debug)]
struct Trouble {
    at: usize,
    what: String,
    hint: Option<String>,
}

impl Trouble {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Trouble {
            at,
            what: what.into(),
            hint: None,
        }
    }
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    fn into_error(self, template: &str) -> Error {
        let at = self.at.min(template.len());
        let column = template[..at].chars().count() + 1;
        let near: String = template[at..].chars().take(20).collect();
        let place = if near.is_empty() {
            "at its end".to_string()
        } else {
            format!("at character {column} ({near:?})")
        };
        let error = Error::kind(
            Kind::Usage,
            format!("bad format template {place}: {}", self.what),
        );
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({
            "ID": "abc", "Names": ["one", "two"], "Size": 7, "None": null, "Flag": true,
            "State": {"Pid": 12, "Status": "running"},
            "Config": {"Labels": {"a.b": "c", "k": "v"}},
            "Mounts": [{"Source": "/a", "Destination": "/b"}, {"Source": "/c", "Destination": "/d"}]
        })
    }
    fn ok(template: &str) -> String {
        render(template, &sample()).unwrap()
    }
    fn fails(template: &str) -> String {
        render(template, &sample()).unwrap_err().to_string()
    }

    #[test]
    fn fields_and_functions() {
        assert_eq!(ok("plain"), "plain");
        assert_eq!(ok("{{.State.Pid}}/{{ .ID }}"), "12/abc");
        assert_eq!(ok("{{json .State}}"), r#"{"Pid":12,"Status":"running"}"#);
        assert_eq!(ok("{{.Names | json}}"), r#"["one","two"]"#);
        assert_eq!(ok(r#"{{index .Config.Labels "a.b"}}"#), "c");
        assert_eq!(ok("{{(index .Mounts 1).Source}}"), "/c");
        assert_eq!(ok("{{index .Names 0 | upper}}"), "ONE");
        assert_eq!(ok("{{len .Names}} {{join .Names \", \"}}"), "2 one, two");
        assert_eq!(
            ok(r#"{{printf "%s has %d" .ID (len .Mounts)}}"#),
            "abc has 2"
        );
        assert_eq!(ok("{{truncate .State.Status 3}}"), "run");
        assert_eq!(
            ok("{{.Names}} {{.State}}"),
            "[one two] map[Pid:12 Status:running]"
        );
        assert_eq!(
            ok("{{.None}}{{.Config.Labels.nothing}}"),
            "<no value><no value>"
        );
        assert_eq!(ok("{{index (split \"a/b\" \"/\") 1}}"), "b");
    }

    #[test]
    fn control_flow() {
        assert_eq!(ok("{{range .Names}}<{{.}}>{{end}}"), "<one><two>");
        assert_eq!(
            ok("{{range $i, $n := .Names}}{{if $i}},{{end}}{{$i}}={{$n}}{{end}}"),
            "0=one,1=two"
        );
        assert_eq!(
            ok("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}"),
            "a.b:c k:v "
        );
        assert_eq!(ok("{{range .None}}x{{else}}empty{{end}}"), "empty");
        assert_eq!(
            ok("{{if eq .State.Status \"running\"}}up{{else}}down{{end}}"),
            "up"
        );
        assert_eq!(ok("{{if .None}}a{{else if .Flag}}b{{else}}c{{end}}"), "b");
        assert_eq!(ok("{{with .State}}{{.Pid}} {{$.ID}}{{end}}"), "12 abc");
        assert_eq!(ok("{{$x := .Size}}{{if gt $x 3}}big{{end}}"), "big");
        assert_eq!(ok("a {{- /* note */ -}} b"), "ab");
        assert_eq!(ok("{{if and .Flag (not .None)}}y{{end}}"), "y");
    }

    #[test]
    fn errors_name_the_position() {
        insta::assert_snapshot!(
            [
                "{{.State.Pidd}}",
                "{{.Nope}}",
                "{{nope .ID}}",
                "{{.ID",
                "{{if .ID}}x",
                "x{{end}}",
                "{{range .ID}}{{end}}",
                "{{index .Names 9}}",
                "{{len}}",
                "{{.ID | }}",
                "{{\"open}}",
                "{{.ID.Sub}}",
                "{{$x}}",
                "{{else}}",
            ]
            .map(|t| format!("{t:24} {}", fails(t)))
            .join("\n")
        );
    }

    #[test]
    fn a_table_has_headings() {
        let list = [
            json!({"ID": "1", "Names": "long-name", "State": {"Pid": 3}}),
            json!({"ID": "22", "Names": "n", "State": {"Pid": 4}}),
        ];
        let table = |t| rows(t, &list, &[("ID", "CONTAINER ID")]).unwrap();
        assert_eq!(
            table(r"table {{.ID}}\t{{.Names}}\t{{.State.Pid}}"),
            "CONTAINER ID   NAMES       PID\n1              long-name   3\n22             n           4"
        );
        assert_eq!(table("{{.ID}}:{{.Names}}"), "1:long-name\n22:n");
        assert_eq!(table("json").lines().count(), 2);
    }
}
