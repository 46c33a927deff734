//! Responses that announce a body and have none: to HEAD, and 304.

use ebb_testbed::{
    http::{self, client},
    runner::Runner,
};
use reqwest::{Method, header::CONTENT_LENGTH};

use crate::support;

const ANNOUNCED: &str = "1000";

async fn asked(runner: &Runner, method: Method, code: u16) -> (u16, Option<String>, usize) {
    let url = format!("http://{}/announce?bytes={ANNOUNCED}&code={code}", runner.http_address);
    let response = client().request(method, url).send().await.unwrap();
    let length = response.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().to_owned());
    (response.status().as_u16(), length, response.bytes().await.unwrap().len())
}

async fn costs_no_instance(name: &str) {
    let runner = Runner::start(&support::http(name, 1, "max_restarting: 1", "")).await;
    let generation = async || {
        http::json(&format!("http://{}/count", runner.http_address)).await.unwrap()["generation"].clone()
    };
    let before = generation().await;
    let announced = Some(ANNOUNCED.to_owned());
    for _ in 0..3 {
        assert_eq!(asked(&runner, Method::HEAD, 200).await, (200, announced.clone(), 0));
        assert_eq!(asked(&runner, Method::GET, 304).await.0, 304);
        assert_eq!(asked(&runner, Method::HEAD, 404).await, (404, announced.clone(), 0));
    }
    assert_eq!(generation().await, before, "{}", runner.process.log());
    assert_eq!(runner.scrape().await.sum("wasm_responses_truncated_total", &[]), 0.0);

    // Where a body is due, one that is missing is still a fault.
    support::breaks_off(&runner, &format!("/announce?bytes={ANNOUNCED}&code=200")).await;
}

#[tokio::test]
async fn a_head_answered_with_the_length_of_a_get_costs_no_instance() {
    costs_no_instance("test_http").await;
}

#[tokio::test]
async fn a_head_answered_with_the_length_of_a_get_costs_no_instance_of_wasi_03() {
    costs_no_instance("test_http_03").await;
}
