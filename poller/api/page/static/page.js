"use strict";
// Keep the page as the server has it: after each event, and every 15 seconds.
(() => {
  const EVERY = 15000;
  const AT_MOST_EVERY = 1000;
  const live = document.getElementById("live");
  let lastFetch = 0;
  let timer = 0;
  let isFetching = false;
  let isStale = false;
  let source = null;

  function report(text, isLost) {
    if (live.textContent !== text) live.textContent = text;
    live.classList.toggle("lost", isLost);
  }

  // Change only what differs, so that focus, selection, scrolling and open details stay.
  function patch(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeName !== fresh.nodeName || old.nodeType !== Node.ELEMENT_NODE) {
      old.replaceWith(fresh);
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    patchChildren(old, fresh);
  }

  function patchChildren(old, fresh) {
    const kept = new Set([...fresh.children].map((child) => child.id));
    const named = new Map();
    for (const child of [...old.children]) {
      if (child.id && !kept.has(child.id)) child.remove();
      else if (child.id) named.set(child.id, child);
    }
    let next = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const match = child.id ? named.get(child.id) : next && !next.id ? next : null;
      if (!match) {
        old.insertBefore(child, next);
      } else {
        if (match !== next) old.insertBefore(match, next);
        next = match.nextSibling;
        patch(match, child);
      }
    }
    while (next) {
      const after = next.nextSibling;
      next.remove();
      next = after;
    }
  }

  function show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const main = document.getElementById("main");
    const filter = main.querySelector("form.filter");
    const freshFilter = fresh.querySelector("form.filter");
    // What is typed into the filter is the reader's.
    if (filter && freshFilter) freshFilter.replaceWith(filter.cloneNode(true));
    const focused = document.activeElement;
    patchChildren(main, fresh.getElementById("main"));
    // What has changed its place has lost the focus.
    if (focused !== document.activeElement && focused.isConnected) {
      focused.focus({ preventScroll: true });
    }
    patch(document.querySelector("footer"), fresh.querySelector("footer"));
    document.title = fresh.title;
  }

  async function refresh() {
    clearTimeout(timer);
    isFetching = true;
    isStale = false;
    lastFetch = Date.now();
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (response.status === 401) location.reload();
      if (response.ok || response.status === 503) show(await response.text());
      if (!document.hidden && source.readyState === EventSource.CLOSED) connect();
    } catch {
      report("Connection lost. Trying again.", true);
    } finally {
      isFetching = false;
      if (!document.hidden) timer = setTimeout(refresh, isStale ? AT_MOST_EVERY : EVERY);
    }
  }

  function refreshSoon() {
    isStale = true;
    if (isFetching) return;
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.max(0, lastFetch + AT_MOST_EVERY - Date.now()));
  }

  function connect() {
    if (source) source.close();
    source = new EventSource("/v1/events/stream");
    source.onopen = () => {
      report("Live", false);
      refreshSoon();
    };
    source.onerror = () => {
      report("Connection lost. Trying again.", true);
    };
    for (const type of document.body.dataset.events.split(" ")) {
      source.addEventListener(type, refreshSoon);
    }
  }

  // A browser opens few connections to one host: those of hidden tabs would use them up.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) {
      source.close();
    } else {
      connect();
      refreshSoon();
    }
  });

  connect();
  if (!document.hidden) timer = setTimeout(refresh, EVERY);
})();
