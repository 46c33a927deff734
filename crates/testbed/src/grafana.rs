//! A Grafana dashboard's JSON → its queries, with variables put in as Grafana does it.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use serde_json::Value;

use crate::{paths, prometheus::Prometheus};

/// One of the dashboards in `grafana/dashboards/`.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Its file's name, without `.json`.
    pub name: String,
    /// Its JSON.
    pub json: Value,
}

/// A query of a panel or of an annotation.
#[derive(Clone, Debug)]
pub struct Query {
    /// Whose it is.
    pub of: String,
    /// PromQL, with variables in it.
    pub expr: String,
    /// Whether it asks for the present only.
    pub is_instant: bool,
}

/// A part of a text in a dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it stands there.
    Text(&'a str),
    /// The name of a variable.
    Variable(&'a str),
}

/// What variables stand for.
#[derive(Clone, Debug)]
pub struct Values(BTreeMap<String, String>);

/// What Grafana has a value for without a dashboard's doing; here for some tens of seconds, scraped once a second.
const BUILT_IN: [(&str, &str); 3] = [("__interval", "1s"), ("__rate_interval", "10s"), ("__range", "60s")];

impl Dashboard {
    /// All of the repository's, in order of their names.
    ///
    /// # Panics
    /// When one cannot be read.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let folder = paths::root().join("grafana/dashboards");
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut all: Vec<_> =
            files.map(|file| Self::read(&file.expect("the folder can be listed").path())).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().expect("a file that was read has a name").to_string_lossy().into_owned();
        Self { name, json }
    }

    /// Its panels: rows, and what is folded into them, included.
    pub fn panels(&self) -> impl Iterator<Item = &Value> {
        let outer = list(&self.json["panels"]).iter();
        outer.flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"])))
    }

    /// Its variables.
    #[must_use]
    pub fn variables(&self) -> &[Value] {
        list(&self.json["templating"]["list"])
    }

    /// Its annotations.
    pub(crate) fn annotations(&self) -> &[Value] {
        list(&self.json["annotations"]["list"])
    }

    /// Every query of its panels and annotations.
    #[must_use]
    pub fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        for panel in self.panels() {
            for target in list(&panel["targets"]) {
                queries.push(Query {
                    of: format!("{}: panel {}, query {}", self.name, panel["title"], target["refId"]),
                    expr: string(&target["expr"]).to_owned(),
                    is_instant: target["instant"] == true,
                });
            }
        }
        for annotation in self.annotations() {
            queries.push(Query {
                of: format!("{}: annotation {}", self.name, annotation["name"]),
                expr: string(&annotation["expr"]).to_owned(),
                is_instant: false,
            });
        }
        queries
    }

    /// What its variables stand for on `prometheus`: everything that there is; a variable that takes one value only, for
    /// the value that `chosen` names, or else the first.
    ///
    /// # Panics
    /// When a variable has no value, or not the one that was chosen.
    pub async fn values(&self, prometheus: &Prometheus, chosen: &[(&str, &str)]) -> Values {
        let mut values = Values(BUILT_IN.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        for variable in self.variables().iter().filter(|variable| variable["type"] == "query") {
            let name = string(&variable["name"]);
            let query = values.put_into(string(&variable["query"]["query"]));
            let arguments = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
            let (selector, label) = arguments
                .and_then(|arguments| arguments.rsplit_once(", "))
                .unwrap_or_else(|| panic!("{}: {name}: {query} is no label_values(…, …)", self.name));
            let found = prometheus.label_values(selector, label).await;
            let choice = chosen.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
            let value = if variable["multi"] != true {
                found.iter().find(|found| choice.is_none_or(|choice| *found == choice)).cloned()
            } else if let Some(all) = variable["allValue"].as_str() {
                // Not everybody runs node-exporter.
                (!found.is_empty() || selector.starts_with("node_")).then(|| all.to_owned())
            } else {
                let escaped: Vec<_> = found.iter().map(|found| regex_in_a_string(found)).collect();
                (!found.is_empty()).then(|| format!("({})", escaped.join("|")))
            };
            let value = value.unwrap_or_else(|| panic!("{}: {query} has {found:?} for {name}", self.name));
            values.0.insert(name.to_owned(), value);
        }
        values
    }
}

impl Values {
    /// `text` with values in the place of variables.
    ///
    /// # Panics
    /// When a variable has none.
    #[must_use]
    pub fn put_into(&self, text: &str) -> String {
        let values = pieces(text).into_iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Variable(name) => {
                self.0.get(name).unwrap_or_else(|| panic!("no value for ${name} in {text}"))
            }
        });
        values.collect()
    }
}

/// `text` as what stands there and the variables in between.
#[must_use]
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        pieces.push(Piece::Text(&rest[..at]));
        rest = &rest[at..];
        if let Some((name, behind)) = variable(rest) {
            pieces.push(Piece::Variable(name));
            rest = behind;
        } else {
            pieces.push(Piece::Text("$"));
            rest = &rest[1..];
        }
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// The name in `$name`, `${name}`, `${name:format}` or `${name.field}`, and what stands behind it. `$1` is no variable
/// but a group of a regular expression, in Prometheus' `label_replace`.
fn variable(text: &str) -> Option<(&str, &str)> {
    let is_no_word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let text = text.strip_prefix('$')?;
    let (reference, behind) = match text.strip_prefix('{') {
        Some(text) => text.split_once('}')?,
        None => text.split_at(text.find(is_no_word).unwrap_or(text.len())),
    };
    let name = reference.split(is_no_word).next()?;
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, behind))
}

/// A value as a regular expression that matches it only, inside of a PromQL string.
fn regex_in_a_string(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str(r"\\\\"),
            '$' | '^' | '*' | '{' | '}' | '[' | ']' | '\'' | '+' | '?' | '.' | '(' | ')' | '|' => {
                write!(escaped, r"\\{c}").expect("a string can be written to");
            }
            c => escaped.push(c),
        }
    }
    escaped
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[Piece<'_>]) {
        let pieces = pieces(text);
        let pieces: Vec<_> = pieces.into_iter().filter(|piece| *piece != Piece::Text("")).collect();
        assert_eq!(pieces, expected, "{text}");
    }

    #[test]
    fn variables_stand_bare_or_in_braces_with_a_format_or_a_field() {
        use Piece::{Text, Variable};
        check("up{job=~\"$job\"}", &[Text("up{job=~\""), Variable("job"), Text("\"}")]);
        check("[$__range]", &[Text("["), Variable("__range"), Text("]")]);
        check("${a}${b:queryparam}&x", &[Variable("a"), Variable("b"), Text("&x")]);
        check("${__data.fields.x}", &[Variable("__data")]);
        check("\"$1\", 5$", &[Text("\""), Text("$"), Text("1\", 5"), Text("$")]);
    }

    #[test]
    fn a_value_is_escaped_for_a_regular_expression_and_again_for_the_string_around_it() {
        assert_eq!(regex_in_a_string("127.0.0.1:9742"), r"127\\.0\\.0\\.1:9742");
        assert_eq!(regex_in_a_string(r"a\b"), r"a\\\\b");
    }
}
