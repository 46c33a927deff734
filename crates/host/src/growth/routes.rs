//! PURE: during which requests memory grew. Paths are kept as a tree of their segments, which has a bounded size: whatever has many
//! children keeps those with many requests or much growth, and counts the others as one, `*`. Who asks for the same again counts
//! beside the tree, without waiting for others.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Children of a segment that are told apart.
const CHILDREN_MAX: usize = 32;

/// A child with less than this part of its parent's requests and bytes may be counted with others.
const PART: u64 = 64;

/// Segments that are kept, besides those that stand for others.
const SEGMENTS_MAX: usize = 200;

/// Segments of a path that are told; what comes after them counts as one.
const DEPTH_MAX: usize = 6;

/// The longest segment, in bytes.
const SEGMENT_BYTES_MAX: usize = 48;

/// What stands for segments that vary.
const VARIES: &str = "*";

/// Routes that count with others of which is known where.
const MERGED_MAX: usize = 256;

/// Methods by their names; all others count as one.
const METHODS: [&str; 9] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];

/// Requests by method and path, and what grew during them.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    /// A node once freed is used again, by another name and number.
    nodes: Vec<Node>,
    freed: Vec<u32>,
    methods: BTreeMap<&'static str, u32>,
    used: u64,
    /// Numbers of nodes that count with others since, and where: the last ones, of which requests may still run.
    merged: VecDeque<(u64, Route)>,
}

/// A place in the tree. Once it counts with others there is nothing at it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    node: u32,
    number: u64,
}

/// Requests of a route that the tree does not know of yet.
#[derive(Clone, Debug, Default)]
struct Beside(Arc<AtomicU64>);

impl Beside {
    /// Of a route that counts with others.
    const CLOSED: u64 = 1 << 63;

    /// So many since the last time.
    fn take(&self) -> u64 {
        // It is open while its node is there.
        if self.0.load(Ordering::Relaxed) == 0 { 0 } else { self.0.swap(0, Ordering::Relaxed) }
    }

    /// The last ones: from now on nothing counts here.
    fn close(&self) -> u64 {
        self.0.swap(Self::CLOSED, Ordering::Relaxed)
    }
}

/// A route that was asked for, for whoever asks for it again.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    route: Route,
    beside: Beside,
}

impl Again {
    /// Another request of the same method and path begins. None if its route counts with others since.
    pub(crate) fn begin(&self) -> Option<Route> {
        let before = self.beside.0.fetch_add(1, Ordering::Relaxed);
        (before < Beside::CLOSED).then_some(self.route)
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    number: u64,
    parent: Option<u32>,
    children: BTreeMap<Box<str>, u32>,
    /// Of requests that end here, and of all that begin so.
    own: Counts,
    all: Counts,
    beside: Beside,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    bytes: u64,
}

impl Counts {
    fn add(&mut self, more: Self) {
        self.requests += more.requests;
        self.bytes += more.bytes;
    }

    const fn is_part_of(self, other: Self) -> bool {
        self.requests * PART < other.requests && self.bytes * PART <= other.bytes
    }
}

impl Routes {
    /// Another request begins.
    pub(super) fn begin(&mut self, method: &str, path: &str) -> Route {
        let method = METHODS.iter().find(|known| **known == method).copied().unwrap_or("OTHER");
        let mut node = match self.methods.get(method) {
            Some(node) => *node,
            None => {
                let node = self.node(None);
                self.methods.insert(method, node);
                node
            }
        };
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        for segment in segments(path) {
            node = self.child(node, segment);
        }
        let number = self.nodes[node as usize].number;
        self.count(node, Counts { requests: 1, bytes: 0 });
        Route { node, number }
    }

    /// As [`Routes::begin`], with what whoever asks for the same again needs.
    pub(super) fn begin_again(&mut self, method: &str, path: &str) -> (Route, Again) {
        let route = self.begin(method, path);
        let beside = self.nodes[route.node as usize].beside.clone();
        (route, Again { route, beside })
    }

    /// Takes in what was counted beside the tree.
    pub(super) fn collect(&mut self) {
        for node in 0..self.nodes.len() {
            let requests = self.nodes[node].beside.take();
            if requests > 0 {
                let node = u32::try_from(node).expect("there are some hundreds");
                self.count(node, Counts { requests, bytes: 0 });
            }
        }
    }

    /// So much grows during a request of `route`.
    pub(super) fn add(&mut self, route: Route, bytes: u64) {
        if let Some(node) = self.find(route) {
            self.count(node, Counts { requests: 0, bytes });
        }
    }

    /// So much has not grown after all.
    pub(super) fn subtract(&mut self, route: Route, bytes: u64) {
        let Some(mut node) = self.find(route) else { return };
        let own = &mut self.nodes[node as usize].own;
        own.bytes = own.bytes.saturating_sub(bytes);
        loop {
            let this = &mut self.nodes[node as usize];
            this.all.bytes = this.all.bytes.saturating_sub(bytes);
            let Some(parent) = this.parent else { return };
            node = parent;
        }
    }

    /// Method, path, requests and bytes of each route that has requests.
    pub(super) fn told(&self) -> Vec<(String, String, u64, u64)> {
        let mut told = Vec::new();
        for (method, node) in &self.methods {
            self.tell(method, "", *node, &mut told);
        }
        told
    }

    fn tell(&self, method: &str, path: &str, node: u32, told: &mut Vec<(String, String, u64, u64)>) {
        let Node { children, own, .. } = &self.nodes[node as usize];
        if own.requests > 0 {
            let path = if path.is_empty() { "/" } else { path };
            told.push((method.to_owned(), path.to_owned(), own.requests, own.bytes));
        }
        for (segment, child) in children {
            self.tell(method, &format!("{path}/{segment}"), *child, told);
        }
    }

    fn find(&self, mut route: Route) -> Option<u32> {
        // What counts with others may do so with others again.
        for _ in 0..MERGED_MAX {
            if self.nodes.get(route.node as usize)?.number == route.number {
                return Some(route.node);
            }
            (_, route) = *self.merged.iter().rev().find(|(number, _)| *number == route.number)?;
        }
        None
    }

    fn count(&mut self, mut node: u32, more: Counts) {
        self.nodes[node as usize].own.add(more);
        loop {
            let this = &mut self.nodes[node as usize];
            this.all.add(more);
            let Some(parent) = this.parent else { return };
            node = parent;
        }
    }

    fn child(&mut self, parent: u32, segment: &str) -> u32 {
        if let Some(child) = self.nodes[parent as usize].children.get(segment) {
            return *child;
        }
        let is_full = |routes: &Self| {
            let children = &routes.nodes[parent as usize].children;
            let apart = children.len() - usize::from(children.contains_key(VARIES));
            apart >= CHILDREN_MAX || routes.nodes.len() - routes.freed.len() >= SEGMENTS_MAX
        };
        if segment != VARIES && is_full(self) {
            self.prune(parent);
        }
        let segment = if segment != VARIES && is_full(self) { VARIES } else { segment };
        if let Some(child) = self.nodes[parent as usize].children.get(segment) {
            return *child;
        }
        let child = self.node(Some(parent));
        self.nodes[parent as usize].children.insert(segment.into(), child);
        child
    }

    /// Counts as one the children of `parent` that are small beside it.
    fn prune(&mut self, parent: u32) {
        self.collect();
        let Node { children, all, .. } = &self.nodes[parent as usize];
        let small: Vec<_> = children
            .iter()
            .filter(|(name, child)| ***name != *VARIES && self.nodes[**child as usize].all.is_part_of(*all))
            .map(|(name, child)| (name.clone(), *child))
            .collect();
        if small.is_empty() {
            return;
        }
        let others = self.child(parent, VARIES);
        for (name, child) in small {
            self.nodes[parent as usize].children.remove(&name);
            self.merge(child, others);
        }
    }

    /// What counted at `from` counts at `to`, which is beside it.
    fn merge(&mut self, from: u32, to: u32) {
        let Node { number, children, mut own, mut all, beside, .. } =
            std::mem::take(&mut self.nodes[from as usize]);
        let last = Counts { requests: beside.close(), bytes: 0 };
        own.add(last);
        all.add(last);
        self.freed.push(from);
        if self.merged.len() >= MERGED_MAX {
            self.merged.pop_front();
        }
        self.merged.push_back((number, Route { node: to, number: self.nodes[to as usize].number }));
        self.nodes[to as usize].own.add(own);
        self.nodes[to as usize].all.add(all);
        for (name, child) in children {
            if let Some(same) = self.nodes[to as usize].children.get(&name) {
                self.merge(child, *same);
            } else {
                self.nodes[child as usize].parent = Some(to);
                self.nodes[to as usize].children.insert(name, child);
            }
        }
    }

    fn node(&mut self, parent: Option<u32>) -> u32 {
        self.used += 1;
        let node = Node { number: self.used, parent, ..Node::default() };
        if let Some(freed) = self.freed.pop() {
            self.nodes[freed as usize] = node;
            return freed;
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("there are some hundreds")
    }
}

/// Those of a path, with [`VARIES`] for what looks like the name of one thing of many.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let named = path.strip_prefix('/').unwrap_or(path).split('/').filter(|segment| !segment.is_empty());
    named.enumerate().map_while(|(depth, segment)| match depth {
        DEPTH_MAX.. => (depth == DEPTH_MAX).then_some(VARIES),
        _ if is_name_of_one(segment) => Some(VARIES),
        _ => Some(segment),
    })
}

/// Whether it looks like a number, a UUID, a hash, or some other name that was made for one thing.
fn is_name_of_one(segment: &str) -> bool {
    let count = |is: fn(&u8) -> bool| segment.bytes().filter(is).count();
    let (digits, hexadecimal) = (count(u8::is_ascii_digit), count(u8::is_ascii_hexdigit));
    let alphanumeric = count(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let all = segment.len();
    digits == all
        || all > SEGMENT_BYTES_MAX
        || (digits > 0 && hexadecimal == all && all >= 8)
        || (digits >= 3 && alphanumeric == all && all >= 16)
        || (all >= 24 && segment.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(routes: &Routes) -> Vec<(String, u64, u64)> {
        let told = routes.told().into_iter();
        told.map(|(method, path, requests, bytes)| (format!("{method} {path}"), requests, bytes)).collect()
    }

    #[test]
    fn requests_count_by_method_and_path_without_what_varies() {
        let mut routes = Routes::default();
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/?page=2"),
            ("GET", "/users/17"),
            ("GET", "/users/18/"),
            ("GET", "/objects/0b0cbf4a-6e4f-4b55-9d5e-1f0e3fd2a1b7/body"),
            ("GET", "/objects/9f86d081/body"),
            ("PURGE", "/a//b"),
        ] {
            routes.begin(method, path);
        }
        let route = routes.begin("POST", "/upload/photo");
        routes.add(route, 30);
        routes.subtract(route, 10);
        let expected = [
            ("GET /", 2, 0),
            ("GET /objects/*/body", 2, 0),
            ("GET /users/*", 2, 0),
            ("OTHER /a/b", 1, 0),
            ("POST /upload/photo", 1, 20),
        ];
        let expected = expected.map(|(name, requests, bytes)| (name.to_owned(), requests, bytes));
        assert_eq!(requests(&routes), expected);
    }

    #[test]
    fn names_that_nobody_could_know_to_vary_are_found() {
        let mut routes = Routes::default();
        for user in 0..10_000_u32 {
            let name: String = user.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
            let route = routes.begin("GET", &format!("/users/{name}/friends"));
            routes.add(route, 2);
            routes.begin("GET", "/users/me/friends");
        }
        let told = requests(&routes);
        let of = |name: &str| told.iter().find(|(told, ..)| told == name).unwrap();
        assert_eq!(of("GET /users/me/friends"), &("GET /users/me/friends".to_owned(), 10_000, 0));
        assert!(of("GET /users/*/friends").1 > 9_900, "{told:?}");
        assert_eq!(told.iter().map(|(_, requests, bytes)| requests + bytes).sum::<u64>(), 40_000);
        assert!(told.len() <= CHILDREN_MAX + 1, "{told:?}");
    }

    #[test]
    fn a_route_that_is_rare_and_grows_is_told_beside_thousands_of_others() {
        let mut routes = Routes::default();
        for number in 0..20_000_u32 {
            let path = format!("/wp-{}-admin/{}", number % 997, number % 7);
            routes.begin("GET", &path);
            if number % 1000 == 0 {
                let route = routes.begin("GET", "/export");
                routes.add(route, 1 << 20);
            }
        }
        let told = requests(&routes);
        assert!(told.contains(&("GET /export".to_owned(), 20, 20 << 20)), "{told:?}");
        assert!(routes.nodes.len() <= 2 * SEGMENTS_MAX, "{}", routes.nodes.len());
    }

    #[test]
    fn what_is_asked_for_again_counts_beside_the_tree_until_its_route_counts_with_others() {
        let mut routes = Routes::default();
        let (early, again) = routes.begin_again("GET", "/early");
        assert_eq!((again.begin(), again.begin()), (Some(early), Some(early)));
        routes.collect();
        assert_eq!(requests(&routes), [("GET /early".to_owned(), 3, 0)]);
        let mut asked = 3;
        for number in 0..5000_u32 {
            let name: String = number.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
            routes.begin("GET", &format!("/{name}"));
            if number % 100 == 0 && again.begin().is_some() {
                asked += 1;
            }
        }
        assert_eq!(again.begin(), None, "it was pruned");
        routes.collect();
        let told = requests(&routes);
        assert_eq!(told.iter().map(|(_, requests, _)| requests).sum::<u64>(), 5000 + asked);
    }

    #[test]
    fn a_path_is_bounded() {
        let mut routes = Routes::default();
        routes.begin("GET", &"/deep".repeat(1000));
        routes.begin("GET", &format!("/{}", "long".repeat(1000)));
        assert_eq!(
            requests(&routes),
            [("GET /*".to_owned(), 1, 0), ("GET /deep/deep/deep/deep/deep/deep/*".to_owned(), 1, 0)]
        );
    }

    #[test]
    fn a_request_whose_route_counts_with_others_meanwhile_counts_there() {
        let mut routes = Routes::default();
        let early = routes.begin("GET", "/early");
        for number in 0..5000_u32 {
            let name: String = number.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
            let route = routes.begin("GET", &format!("/{name}"));
            if number == 100 {
                assert_ne!(routes.find(early), Some(early.node), "it was pruned");
                routes.add(early, 5);
                routes.add(early, 3);
                routes.subtract(early, 3);
            }
            routes.add(route, 1);
        }
        let told = requests(&routes);
        assert_eq!(told.iter().map(|(_, requests, _)| requests).sum::<u64>(), 5001);
        assert_eq!(told.iter().map(|(.., bytes)| bytes).sum::<u64>(), 5005, "{told:?}");
    }
}
