//! The storage service's page in a real browser, while its instances are restarted all the time.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ebb_testbed::{runner::Runner, wait};
use thirtyfour::{By, WebElement};

use crate::{
    browser::Browser,
    support::{self, DEADLINE},
};

/// The page's row of a file.
async fn row(browser: &Browser, name: &str) -> Option<WebElement> {
    let rows = browser.driver.find_all(By::Css(format!("tr[data-name=\"{name}\"]"))).await.unwrap();
    rows.into_iter().next()
}

async fn says(browser: &Browser, what: &str) {
    wait::until(what, DEADLINE, async || {
        let status = browser.driver.find(By::Id("status")).await.ok()?.text().await.ok()?;
        status.contains(what).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_uploaded_listed_downloaded_and_deleted_in_a_browser_during_restarts() {
    let runner = Arc::new(Runner::start(&support::storage(2, "256MiB", "")).await);
    let browser = Browser::start((1000, 700)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let restarts = Arc::new(AtomicU64::new(0));
    let restarting = tokio::spawn({
        let (runner, stop, restarts) = (Arc::clone(&runner), Arc::clone(&stop), Arc::clone(&restarts));
        async move {
            for replica in (0..2).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // 409 and 429: the last restart still waits for a request to end.
                let answer = runner.restart("storage", replica).send().await.unwrap();
                restarts.fetch_add(u64::from(answer.status().is_success()), Ordering::Relaxed);
            }
        }
    });

    let content: Vec<u8> = (0..40_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = runner.dir().join("video é.bin");
    fs::write(&file, &content).unwrap();
    browser.driver.goto(format!("http://{}/", runner.http_address)).await.unwrap();
    wait::until("the page says that nothing is there", DEADLINE, async || {
        browser.driver.find(By::Id("empty")).await.ok()?.is_displayed().await.ok()?.then_some(())
    })
    .await;
    browser.driver.find(By::Id("file")).await.unwrap().send_keys(file.to_str().unwrap()).await.unwrap();
    browser.driver.find(By::Id("upload")).await.unwrap().click().await.unwrap();
    says(&browser, "Stored video é.bin").await;
    let progress = browser.driver.find(By::Id("progress")).await.unwrap();
    assert_eq!(progress.prop("value").await.unwrap().as_deref(), Some("1"));
    assert_eq!(fs::read(runner.dir().join("volume/video é.bin")).unwrap(), content);

    let listed =
        wait::until("what was stored is listed", DEADLINE, async || row(&browser, "video é.bin").await).await;
    let text = listed.text().await.unwrap();
    assert!(text.contains("38.1 MiB") && text.contains("application/octet-stream"), "{text}");
    browser.screenshot("storage").await;

    listed.find(By::Css("a.download")).await.unwrap().click().await.unwrap();
    wait::until("the download is complete", DEADLINE, async || {
        let downloaded = fs::read(browser.downloads().join("video é.bin")).ok()?;
        (downloaded == content).then_some(())
    })
    .await;

    listed.find(By::Css("button.delete")).await.unwrap().click().await.unwrap();
    says(&browser, "Deleted video é.bin").await;
    wait::until("it is no longer listed", DEADLINE, async || {
        row(&browser, "video é.bin").await.is_none().then_some(())
    })
    .await;
    assert!(!runner.dir().join("volume/video é.bin").exists());
    stop.store(true, Ordering::Relaxed);
    restarting.await.unwrap();
    assert!(restarts.load(Ordering::Relaxed) >= 10, "{restarts:?}");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
    let scrape = runner.scrape().await;
    assert_eq!(scrape.sum("wasm_instance_restarts_total", &["reason=\"crash\""]), 0.0);
}
