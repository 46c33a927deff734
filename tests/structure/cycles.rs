//! Files of a crate that import each other in a circle.
//!
//! Read as tokens, so paths within macros count, too. An edge leads from the file that names an item to the file
//! that the module before the item's name lies in; what is re-exported belongs to the file that re-exports it.
//! `mod child;` names no item, and neither do tests.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Ident, Literal, TokenStream, TokenTree};

/// The names of modules from the crate's root on, and behind them an item's if one is meant.
type Names = Vec<String>;

struct Mention {
    path: Names,
    line: usize,
}

#[derive(Default)]
struct Module {
    file: PathBuf,
    mentions: Vec<Mention>,
    /// Names that `use` brings in, and the paths behind them.
    imports: BTreeMap<String, Names>,
}

/// One crate: all modules that are compiled without tests.
#[derive(Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Names, Module>,
}

/// From file to file, and where the first mention stands.
type Edges = BTreeMap<PathBuf, BTreeMap<PathBuf, String>>;

impl Crate {
    /// Reads the crate whose root is `file`.
    pub(crate) fn read(file: &Path) -> Self {
        let mut read = Self::default();
        read.file(file, file.parent().unwrap(), Names::new());
        read
    }

    /// `folder`: where the files of child modules lie.
    fn file(&mut self, file: &Path, folder: &Path, path: Names) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.module(tokens, file, folder, path);
    }

    fn module(&mut self, tokens: TokenStream, file: &Path, folder: &Path, path: Names) {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        self.scan(tokens, folder, &path, &mut module);
        self.modules.insert(path, module);
    }

    fn scan(&mut self, tokens: TokenStream, folder: &Path, path: &Names, module: &mut Module) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut rest = &tokens[..];
        while let [first, after @ ..] = rest {
            rest = match first {
                TokenTree::Punct(hash) if hash.as_char() == '#' => attribute(after, module),
                TokenTree::Ident(word) if word == "mod" => self.child(after, folder, path, module),
                TokenTree::Ident(word) if word == "use" => import(after, module),
                TokenTree::Ident(_) => inline(rest, module),
                TokenTree::Group(group) => {
                    self.scan(group.stream(), folder, path, module);
                    after
                }
                // `::name` after a generic argument, or of another crate.
                TokenTree::Punct(_) if is_separator(rest) => path_at(&rest[2..]).1,
                TokenTree::Punct(_) | TokenTree::Literal(_) => after,
            };
        }
    }

    fn child<'a>(
        &mut self,
        tokens: &'a [TokenTree],
        folder: &Path,
        path: &Names,
        module: &Module,
    ) -> &'a [TokenTree] {
        let [TokenTree::Ident(name), body, after @ ..] = tokens else { return tokens };
        let name = name.to_string();
        let child = [path.as_slice(), std::slice::from_ref(&name)].concat();
        let below = folder.join(&name);
        match body {
            TokenTree::Group(group) => self.module(group.stream(), &module.file, &below, child),
            _ => {
                let files = [folder.join(format!("{name}.rs")), below.join("mod.rs")];
                let file = files.iter().find(|file| file.is_file());
                self.file(file.unwrap_or_else(|| panic!("{files:?}: neither is there")), &below, child);
            }
        }
        after
    }

    /// The file that `mention` in `path` is of, unless it is of another crate or names the module alone.
    fn file_of(&self, path: &Names, mention: &Names) -> Option<&Path> {
        let absolute = self.absolute(path, mention)?;
        if self.modules.contains_key(&absolute) {
            return None;
        }
        let longest = (0..absolute.len()).rev().find_map(|end| self.modules.get(&absolute[..end]))?;
        Some(&longest.file)
    }

    fn absolute(&self, path: &[String], mention: &[String]) -> Option<Names> {
        let (first, rest) = mention.split_first()?;
        let child = [path, std::slice::from_ref(first)].concat();
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" if rest.first().is_some_and(|next| next == "super") => self.absolute(path, rest),
            "self" => Some([path, rest].concat()),
            "super" => {
                let parent = path.split_last()?.1;
                let further = [&["self".to_owned()], rest].concat();
                self.absolute(parent, &further)
            }
            _ if self.modules.contains_key(&child) => Some([path, mention].concat()),
            _ => {
                let import = self.modules[path].imports.get(first).filter(|import| import[0] != *first)?;
                Some([self.absolute(path, import)?.as_slice(), rest].concat())
            }
        }
    }

    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (path, module) in &self.modules {
            for Mention { path: mention, line } in &module.mentions {
                if let Some(file) = self.file_of(path, mention).filter(|file| *file != module.file) {
                    let place = || format!("{}:{line}: {}", module.file.display(), mention.join("::"));
                    let of_this = edges.entry(module.file.clone()).or_default();
                    of_this.entry(file.to_owned()).or_insert_with(place);
                }
            }
        }
        edges
    }

    /// For each edge that lies on a circle the shortest one, each circle once, with the line that makes each edge.
    pub(crate) fn cycles(&self) -> BTreeSet<String> {
        let edges = self.edges();
        let pairs = edges.iter().flat_map(|(from, targets)| targets.keys().map(move |to| (from, to)));
        let cycles = pairs.filter_map(|(from, to)| shortest(&edges, to, from));
        cycles.map(|cycle| describe(&edges, cycle)).collect()
    }
}

/// The files from `start` to `end`, both included.
fn shortest<'a>(edges: &'a Edges, start: &'a PathBuf, end: &PathBuf) -> Option<Vec<&'a PathBuf>> {
    let mut seen = BTreeSet::from([start]);
    let mut ways = VecDeque::from([vec![start]]);
    while let Some(way) = ways.pop_front() {
        let last = *way.last()?;
        if last == end {
            return Some(way);
        }
        for next in edges.get(last).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next) {
                ways.push_back([way.as_slice(), &[next]].concat());
            }
        }
    }
    None
}

/// Begins at the file that is first by name, so that a circle reads the same wherever it was entered.
fn describe(edges: &Edges, mut cycle: Vec<&PathBuf>) -> String {
    let first = (0..cycle.len()).min_by_key(|index| cycle[*index]).unwrap();
    cycle.rotate_left(first);
    cycle.push(cycle[0]);
    let names: Vec<_> = cycle.iter().map(|file| file.display().to_string()).collect();
    let places: Vec<_> = cycle.windows(2).map(|pair| format!("\n    {}", edges[pair[0]][pair[1]])).collect();
    format!("{}{}", names.join(" → "), places.concat())
}

/// What an attribute names in strings counts, as in `#[serde(with = "…")]`. What is compiled for tests only does not.
fn attribute<'a>(tokens: &'a [TokenTree], module: &mut Module) -> &'a [TokenTree] {
    let after_hash = match tokens {
        [TokenTree::Punct(bang), after @ ..] if bang.as_char() == '!' => after,
        _ => tokens,
    };
    let [TokenTree::Group(group), after @ ..] = after_hash else { return tokens };
    let content = group.stream().to_string().replace(' ', "");
    if ["cfg(test)", "cfg(any(test,fuzzing))"].contains(&content.as_str()) {
        let ends = |token: &TokenTree| match token {
            TokenTree::Group(group) => group.delimiter() == proc_macro2::Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            TokenTree::Ident(_) | TokenTree::Literal(_) => false,
        };
        let end = after.iter().position(ends).map_or(after.len(), |last| last + 1);
        return &after[end..];
    }
    if !content.starts_with("doc=") {
        strings(group.stream(), module);
    }
    after
}

fn strings(tokens: TokenStream, module: &mut Module) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => strings(group.stream(), module),
            TokenTree::Literal(literal) => string(&literal, module),
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

fn string(literal: &Literal, module: &mut Module) {
    let text = literal.to_string();
    let Ok(tokens) = text.trim_matches('"').parse::<TokenStream>() else { return };
    let mut tokens: Vec<_> = tokens.into_iter().collect();
    tokens.iter_mut().for_each(|token| token.set_span(literal.span()));
    let mut rest = &tokens[..];
    while let [first, after @ ..] = rest {
        rest = if matches!(first, TokenTree::Ident(_)) { inline(rest, module) } else { after };
    }
}

fn inline<'a>(tokens: &'a [TokenTree], module: &mut Module) -> &'a [TokenTree] {
    let (path, after) = path_at(tokens);
    if path.len() > 1 {
        module.mentions.push(mention(&path));
    }
    after
}

fn mention(path: &[&Ident]) -> Mention {
    let line = path.first().map_or(0, |first| first.span().start().line);
    Mention { path: path.iter().map(ToString::to_string).collect(), line }
}

fn is_separator(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
    tokens.len() >= 2 && tokens[..2].iter().all(is_colon)
}

/// `a::b::c`, as far as it is made of names, and what follows it.
fn path_at(tokens: &[TokenTree]) -> (Vec<&Ident>, &[TokenTree]) {
    let mut path = Vec::new();
    let mut rest = tokens;
    while let [TokenTree::Ident(name), after @ ..] = rest {
        path.push(name);
        rest = after;
        match rest {
            [_, _, TokenTree::Ident(_), ..] if is_separator(rest) => rest = &rest[2..],
            _ => break,
        }
    }
    (path, rest)
}

fn import<'a>(tokens: &'a [TokenTree], module: &mut Module) -> &'a [TokenTree] {
    let is_end = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';');
    // `use<'a>` in a bound is no import, and has no end of its own.
    match tokens {
        [TokenTree::Punct(angle), ..] if angle.as_char() == '<' => return tokens,
        _ => {}
    }
    let end = tokens.iter().position(is_end).unwrap_or(tokens.len());
    use_tree(&tokens[..end], &[], module);
    &tokens[end..]
}

fn use_tree<'a>(tokens: &'a [TokenTree], prefix: &[&'a Ident], module: &mut Module) {
    let (names, rest) = path_at(tokens);
    let path = [prefix, &names].concat();
    let rest = if is_separator(rest) { &rest[2..] } else { rest };
    match rest {
        [TokenTree::Group(group)] => {
            let tokens: Vec<_> = group.stream().into_iter().collect();
            let is_comma =
                |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
            for tree in tokens.split(is_comma) {
                use_tree(tree, &path, module);
            }
        }
        [TokenTree::Punct(_)] => {
            let mut all = mention(&path);
            all.path.push("*".to_owned());
            module.mentions.push(all);
        }
        [TokenTree::Ident(_as), TokenTree::Ident(alias)] => bring_in(path, alias, module),
        _ => {
            if let Some(last) = names.last() {
                bring_in(path, last, module);
            }
        }
    }
}

fn bring_in(mut path: Vec<&Ident>, name: &Ident, module: &mut Module) {
    let name = if name == "self" { path[path.len() - 2] } else { name };
    path.pop_if(|last| **last == "self");
    let mention = mention(&path);
    module.imports.insert(name.to_string(), mention.path.clone());
    module.mentions.push(mention);
}
