//! An exposition in text format 0.0.4 → values by name and labels.

use crate::http;

/// What one scrape told.
#[derive(Clone, Debug)]
pub struct Scrape(String);

impl Scrape {
    /// Scrapes the program at `address`; nothing when it does not answer.
    pub async fn of(address: &str) -> Option<Self> {
        http::text(&format!("http://{address}/metrics")).await.map(Self)
    }

    /// The exposition itself.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Every value of metric `name` whose labels contain all of `labels`, each written `label="value"`.
    #[must_use]
    pub fn values(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        self.0
            .lines()
            .filter(of_name)
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect()
    }

    /// The sum of [`Scrape::values`]; 0 when there are none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.values(name, labels).iter().sum()
    }

    /// The only one of [`Scrape::values`]; nothing when there is none or more than one.
    #[must_use]
    pub fn one(&self, name: &str, labels: &[&str]) -> Option<f64> {
        match self.values(name, labels)[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}
