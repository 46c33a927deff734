//! The evaluator's page in a real browser: what it tells, that it keeps itself up to date, and that it needs no script.

use ebb_testbed::{evaluator::Evaluator, http, runner::Runner, wait};
use serde_json::json;
use thirtyfour::{By, Key, WebElement};

use crate::{
    browser::Browser,
    support::{self, DEADLINE},
};

/// Two modules: one that leaks and is restarted, one that does not and is not.
struct Fleet {
    evaluator: Evaluator,
    runner: Runner,
}

impl Fleet {
    async fn start(flags: &[&str]) -> Self {
        let runner = Runner::start(&[support::leaky(4), support::steady(5)].concat()).await;
        let store = support::scrape_store(&[&runner.address]);
        let config = support::evaluator(&store, &[&runner.address], "");
        Self { evaluator: Evaluator::start_with(&config, flags).await, runner }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.evaluator.address)
    }

    /// Waits until decisions with this action are there; returns their number.
    async fn decided(&self, action: &str, at_least: usize) -> usize {
        let what = format!("{at_least} decisions {action} are there");
        wait::until(&what, DEADLINE, async || {
            let decisions = self.evaluator.api(&format!("decisions?action={action}&limit=1000")).await;
            let count = decisions.as_array()?.len();
            (count >= at_least).then_some(count)
        })
        .await
    }
}

async fn all(browser: &Browser, css: &str) -> Vec<WebElement> {
    browser.driver.find_all(By::Css(css)).await.unwrap()
}

/// Waits until something of an element can be told. The page renews itself: an element that was replaced meanwhile is looked for
/// again.
async fn of<T>(browser: &Browser, css: &str, told: impl AsyncFn(WebElement) -> Option<T>) -> T {
    wait::until(&format!("{css} can be told of"), DEADLINE, async || {
        told(browser.driver.find(By::Css(css)).await.ok()?).await
    })
    .await
}

async fn text(browser: &Browser, css: &str) -> String {
    of(browser, css, async |element| element.text().await.ok()).await
}

async fn click(browser: &Browser, css: &str) {
    of(browser, css, async |element| element.click().await.ok()).await;
}

async fn script(browser: &Browser, script: &str) -> serde_json::Value {
    browser.driver.execute(script, Vec::new()).await.unwrap().json().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_modules_and_restarts_as_they_come_without_a_reload() {
    let fleet = Fleet::start(&[]).await;
    let browser = Browser::start((1200, 900)).await;
    fleet.decided("restarted", 1).await;
    browser.driver.goto(fleet.url("/")).await.unwrap();
    browser.says("tr[data-module=leaky]", "t_interval").await;
    browser.says("tr[data-module=steady]", "MiB").await;
    assert_eq!(text(&browser, ".badge").await, "Restarts on");
    assert_eq!(text(&browser, "#total-instances").await, "9");

    // A reload would forget this, and the page would forget what its reader has opened.
    script(&browser, "window.notReloaded = true").await;
    click(&browser, ".decisions details summary").await;
    let opened = of(&browser, "details[open]", async |element| element.id().await.ok()?).await;
    of(&browser, "tr[data-module=leaky] a", async |element| element.focus().await.ok()).await;
    let newest = "return Number(document.querySelector('[data-decision]').dataset.decision)";
    let before = script(&browser, newest).await.as_u64().unwrap();
    wait::until("a restart appears", DEADLINE, async || {
        let script = "return [...document.querySelectorAll('[data-action=restarted]')].map(d => Number(d.dataset.decision))";
        let restarts = browser.driver.execute(script, Vec::new()).await.ok()?;
        restarts.json().as_array()?.iter().any(|id| id.as_u64() > Some(before)).then_some(())
    })
    .await;
    assert_eq!(script(&browser, "return window.notReloaded").await, json!(true));
    assert_eq!(script(&browser, "return document.activeElement.textContent").await, json!("leaky"));
    let is_open = format!("const d = document.getElementById('{opened}'); return d === null || d.open");
    assert_eq!(script(&browser, &is_open).await, json!(true));

    // Whoever selects text is not disturbed, and is told so.
    script(&browser, "getSelection().selectAllChildren(document.querySelector('h1'))").await;
    browser.says("#connection", "Text is selected").await;
    script(&browser, "getSelection().removeAllRanges()").await;
    wait::until("the page goes on", DEADLINE, async || {
        text(&browser, "#connection").await.is_empty().then_some(())
    })
    .await;

    // Paused, it stays as it is.
    click(&browser, "#live").await;
    script(&browser, "document.querySelector('h1').textContent = 'Touched'").await;
    fleet.decided("restarted", fleet.decided("restarted", 1).await + 2).await;
    assert_eq!(text(&browser, "h1").await, "Touched");
    click(&browser, "#live").await;
    browser.says("h1", "Modules").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_when_the_evaluator_cannot_be_reached() {
    let mut fleet = Fleet::start(&["--dry-run"]).await;
    let browser = Browser::start((1200, 900)).await;
    browser.driver.goto(fleet.url("/")).await.unwrap();
    browser.says(".badge", "Dry run").await;
    fleet.evaluator.process.kill();
    browser.says("#connection", "The evaluator cannot be reached").await;
    assert_eq!(text(&browser, ".badge").await, "Dry run");
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_replica_has_a_chart_and_each_decision_an_explanation() {
    let fleet = Fleet::start(&[]).await;
    let browser = Browser::start((1200, 900)).await;
    fleet.decided("restarted", 3).await;
    browser.driver.goto(fleet.url("/modules/leaky")).await.unwrap();
    wait::until("every replica has a line in a chart", DEADLINE, async || {
        let figures = "figure[data-replica] > svg polyline[stroke='#1D63A8']";
        (all(&browser, figures).await.len() >= 4).then_some(())
    })
    .await;
    for replica in 0..4 {
        assert_eq!(all(&browser, &format!("figure[data-replica='{replica}']")).await.len(), 1);
        let row = text(&browser, &format!("tr[data-replica='{replica}']")).await;
        assert!(row.contains("MiB") && row.contains(&format!("leaky/{replica}")), "{row}");
    }
    let why = text(&browser, "tr[data-replica='0'] .why").await;
    assert!(["min_age", "MiB", "no threshold"].iter().any(|words| why.contains(words)), "{why}");

    // Why was this one restarted?
    browser.driver.goto(fleet.url("/decisions?module=leaky&action=restarted")).await.unwrap();
    let sentence = text(&browser, "[data-action=restarted] .sentence").await;
    assert!(sentence.contains("prediction interval at level 0.8 of"), "{sentence}");
    click(&browser, "[data-action=restarted] summary").await;
    browser.says("[data-action=restarted] details[open] dl", "threshold_bytes").await;
    click(&browser, "[data-action=restarted] .what a").await;
    browser.says("h1", "leaky/").await;
    browser.says("[data-action=restarted] .sentence", ">").await;
    browser.says("[data-action=restarted]", "memory fell").await;
    assert_eq!(all(&browser, ".charts.large figure").await.len(), 1);

    // And why not that one?
    browser.driver.goto(fleet.url("/modules/steady/0")).await.unwrap();
    browser.says("[data-verdict=within]", "≤").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_which_function_and_which_request_makes_memory_grow() {
    let http = support::http("test_http", 2, "memory_limit: 128MiB", "");
    let runner = Runner::start(&[support::leaky(4), http].concat()).await;
    let store = support::scrape_store(&[&runner.address]);
    let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    let fleet = Fleet { evaluator, runner };
    for path in ["/grow?bytes=4194304", "/hello", "/hello"] {
        let url = format!("http://{}{path}", fleet.runner.http_address);
        assert_eq!(http::client().get(url).send().await.unwrap().status(), 200);
    }
    fleet.decided("restarted", 1).await;
    let browser = Browser::start((1200, 1400)).await;
    browser.driver.goto(fleet.url("/modules/leaky")).await.unwrap();
    browser.says("[data-growth] tbody tr", "ebb_guests::memory::leak").await;
    browser.says("[data-growth] tbody tr", "100.0 %").await;
    click(&browser, "[data-growth] summary").await;
    wait::until("the flame graph is drawn", DEADLINE, async || {
        let width = script(&browser, "return document.querySelector('[data-growth] img').naturalWidth").await;
        (width.as_u64()? >= 1000).then_some(())
    })
    .await;
    browser.screenshot("growth").await;
    browser.says("[data-action=restarted] .growth", "100 % were asked for by ebb_guests::memory::leak").await;

    // The picture by itself can be zoomed into.
    let picture = of(&browser, "[data-growth] img", async |image| image.attr("src").await.ok()?).await;
    let alone = http::client().get(fleet.url(&picture)).send().await.unwrap();
    let policy = alone.headers()["content-security-policy"].to_str().unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "sandbox allow-scripts"] {
        assert!(policy.contains(part) && !policy.contains("allow-same-origin"), "{policy}");
    }
    browser.driver.goto(fleet.url(&picture)).await.unwrap();
    browser.says("svg #title", "Growth of leaky").await;
    click(&browser, "svg #frames g:last-of-type").await;
    let zoomed = "return getComputedStyle(document.getElementById('unzoom')).opacity !== '0'";
    assert_eq!(script(&browser, zoomed).await, json!(true));
    browser.driver.goto(fleet.url("/modules/test_http")).await.unwrap();
    browser.says("[data-growth] div.scroll:nth-of-type(2) tbody tr", "GET /grow").await;
    browser.says("[data-growth] div.scroll:nth-of-type(2)", "Other requests").await;
    browser.screenshot("growth-requests").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_without_scripts_by_keyboard_and_on_a_narrow_screen() {
    let fleet = Fleet::start(&["--dry-run"]).await;
    let browser = Browser::start((1200, 900)).await;
    fleet.decided("dry_run", 1).await;
    browser.run_scripts(false).await;
    browser.resize(360, 740).await;
    for path in ["/", "/modules/leaky", "/modules/leaky/0", "/decisions", "/advice", "/config"] {
        browser.driver.goto(fleet.url(path)).await.unwrap();
        assert_eq!(text(&browser, ".badge").await, "Dry run", "{path}");
        assert!(!browser.driver.find(By::Id("live")).await.unwrap().is_displayed().await.unwrap());
        let width = script(&browser, "return document.documentElement.scrollWidth").await;
        assert!(width.as_u64() <= Some(360), "{path} is {width} pixels wide");
        let unnamed = "return [...document.querySelectorAll('main th:not([scope]), main svg:not([aria-hidden]):not([aria-label])')].length";
        assert_eq!(script(&browser, unnamed).await, json!(0), "{path}");
    }
    browser.driver.goto(fleet.url("/modules/leaky")).await.unwrap();
    assert_eq!(all(&browser, "figure[data-replica] > svg").await.len(), 4);
    browser.says("[data-action=dry_run]", "dry run: not restarted").await;

    // Tab by tab from the top: first over the navigation, then to the modules.
    browser.driver.goto(fleet.url("/")).await.unwrap();
    let mut reached = Vec::new();
    for _ in 0..12 {
        let focused = browser.driver.active_element().await.unwrap();
        focused.send_keys(Key::Tab + "").await.unwrap();
        let outline = "const on = document.activeElement; return [on.textContent.trim(), getComputedStyle(on).outlineStyle]";
        let on = script(&browser, outline).await;
        assert_eq!(on[1], "solid", "the focus is seen on {on}");
        reached.push(on[0].as_str().unwrap().to_owned());
    }
    assert_eq!(reached[..6], ["Skip to content", "Ebb", "Modules", "Decisions", "What to set", "Config"]);
    for link in ["leaky", "steady"] {
        assert!(reached.iter().any(|text| text == link), "{link}: {reached:?}");
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test]
async fn the_api_refuses_what_nothing_can_match() {
    let fleet = Fleet::start(&["--dry-run"]).await;
    for (path, expected) in [
        ("status?x=1", "unknown field `x`"),
        ("modules?limit=1", "unknown field `limit`"),
        ("instances?foo=1", "unknown field `foo`"),
        ("instances?action=ordered", "decisions have one, instances do not"),
        ("instances?verdict=withn", "verdict=withn: expected one of above_threshold, "),
        ("decisions?action=orderd", "action=orderd: expected one of restarted, "),
        ("decisions?limit=-1", "limit"),
    ] {
        let asked = http::client().get(fleet.url(&format!("/api/v1/{path}")));
        let (status, answer) = http::answer(asked).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && error.contains(expected), "{path}: {status} {answer}");
    }
    let redirected = http::client().get(fleet.url("/modules")).send().await.unwrap();
    assert_eq!((redirected.status().as_u16(), redirected.url().path()), (200, "/"));
}

#[tokio::test]
async fn pages_come_with_a_policy_that_lets_nothing_foreign_in() {
    let fleet = Fleet::start(&["--dry-run"]).await;
    for path in ["/", "/modules/nothing", "/decisions?sort=none", "/assets/page.js", "/api/v1/status"] {
        let response = http::client().get(fleet.url(path)).send().await.unwrap();
        let status = response.status().as_u16();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        let expected = match path {
            "/modules/nothing" => (404, "text/html; charset=utf-8", Some("no-store")),
            "/decisions?sort=none" => (400, "text/html; charset=utf-8", Some("no-store")),
            "/assets/page.js" => (200, "text/javascript; charset=utf-8", Some("no-cache")),
            "/api/v1/status" => (200, "application/json", None),
            _ => (200, "text/html; charset=utf-8", Some("no-store")),
        };
        let cache = response.headers().get("cache-control").map(|value| value.to_str().unwrap());
        assert_eq!((status, &*header("content-type"), cache), expected, "{path}");
    }
}
