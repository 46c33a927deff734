// Keeps the page up to date: fetches its own address once per interval and puts the new <main> in place of the old.
// Without this script the page works the same, and stays as it is until it is reloaded.
"use strict";
(() => {
  const WAIT_MS = 15000;
  const connection = document.getElementById("connection");
  const button = document.getElementById("live");
  let paused = false;
  let shownAt = new Date();
  let timer;

  const main = () => document.getElementById("main");
  const interval = () => Math.max(1000, Number(main().dataset.intervalMs) || 10000);
  const time = (date) => date.toISOString().slice(11, 19);

  function tell(text, { unreachable = false } = {}) {
    if (connection.textContent !== text) connection.textContent = text;
    document.body.classList.toggle("unreachable", unreachable);
  }

  // Whoever selects text or has the page in the background is not disturbed.
  function isSelecting() {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && main().contains(selection.anchorNode);
  }

  // What a reader has done to the page: opened, focused, scrolled to.
  function keep(old) {
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const opened = [...old.querySelectorAll("details[open][id]")];
    // What is looked at stays where it is on the screen, also if something comes in above.
    const anchor = [focused, ...opened].find((element) => {
      const box = element?.closest("[id]")?.getBoundingClientRect();
      return box && box.bottom > 0 && box.top < innerHeight;
    })?.closest("[id]");
    const alike = focused?.getAttribute("href")
      ? [...old.querySelectorAll("a")].filter((link) => link.getAttribute("href") === focused.getAttribute("href"))
      : [];
    return {
      opened: opened.map((details) => details.id),
      scrolled: [...old.querySelectorAll(".scroll[id]")].map((box) => [box.id, box.scrollLeft, box.scrollTop]),
      anchor: anchor && anchor !== old ? [anchor.id, anchor.getBoundingClientRect().top] : null,
      focus: (now) => {
        if (!focused) return null;
        if (focused === old) return now;
        if (focused.id) return document.getElementById(focused.id);
        if (focused.matches("summary")) return document.getElementById(focused.parentElement.id)?.querySelector("summary");
        const links = [...now.querySelectorAll("a")].filter((link) => link.getAttribute("href") === focused.getAttribute("href"));
        return links[alike.indexOf(focused)] ?? links[0];
      },
    };
  }

  function replace(next) {
    const old = main();
    const kept = keep(old);
    const [left, top] = [scrollX, scrollY];
    const now = document.adoptNode(next);
    old.replaceWith(now);
    for (const id of kept.opened) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    for (const [id, x, y] of kept.scrolled) {
      const box = document.getElementById(id);
      if (box) [box.scrollLeft, box.scrollTop] = [x, y];
    }
    kept.focus(now)?.focus({ preventScroll: true });
    scrollTo(left, top);
    const anchor = kept.anchor && document.getElementById(kept.anchor[0]);
    if (anchor) scrollBy(0, anchor.getBoundingClientRect().top - kept.anchor[1]);
  }

  async function refresh() {
    try {
      const response = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(WAIT_MS) });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const next = page.getElementById("main");
      if (!next) throw new Error("no page");
      if (!paused && isSelecting()) {
        tell(`Text is selected: the page waits. This is as of ${time(shownAt)}.`);
        return;
      }
      tell("");
      if (paused) return;
      document.title = page.title;
      replace(next);
      shownAt = new Date();
    } catch {
      tell(`The evaluator cannot be reached. This is as of ${time(shownAt)}.`, { unreachable: true });
    }
  }

  function schedule() {
    clearTimeout(timer);
    if (paused || document.hidden) return;
    timer = setTimeout(async () => {
      await refresh();
      schedule();
    }, interval());
  }

  button.hidden = false;
  button.addEventListener("click", async () => {
    paused = !paused;
    button.textContent = paused ? "Resume" : "Pause";
    if (!paused) await refresh();
    schedule();
  });
  document.addEventListener("visibilitychange", async () => {
    clearTimeout(timer);
    if (!document.hidden && !paused) await refresh();
    schedule();
  });
  schedule();
})();
