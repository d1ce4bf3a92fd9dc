// The live part of the console. Every page works without it: it shows times in the reader's zone, copies ids, opens
// details in place, and keeps the page as the server would render it now.

const live = document.getElementById("live");

// --- Times -----------------------------------------------------------------------------------------------------

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const dayAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto" });

function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    const seconds = Math.round((moment - Date.now()) / 1000);
    element.title = exact.format(moment);
    if (!("relative" in element.dataset)) element.textContent = day.format(moment);
    else if (Math.abs(seconds) < 45) element.textContent = relative.format(0, "second");
    else if (Math.abs(seconds) < 2700) element.textContent = relative.format(Math.round(seconds / 60), "minute");
    else if (Math.abs(seconds) < 79200) element.textContent = relative.format(Math.round(seconds / 3600), "hour");
    else element.textContent = dayAndTime.format(moment);
  }
}

// --- Bringing the page up to date, without moving the focus, the selection or the scroll position -----------------

function sameNode(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && (old.id || "") === (fresh.id || "");
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE && node.id ? node.id : null;
}

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  // The state of the connection is known here, not at the server; so is what was wrong in a form that came back.
  if (old.matches("[data-live], [data-keep]")) return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  // What somebody is typing or ticking stays; only its label and hints follow the server.
  if (old.matches("input, textarea, select")) return;
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const keyed = new Map([...old.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
  let next = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = keyed.get(keyOf(wanted));
    if (known) {
      if (known !== next) old.insertBefore(known, next);
      else next = next.nextSibling;
      morph(known, wanted);
    } else if (next && !keyOf(next) && sameNode(next, wanted)) {
      const current = next;
      next = next.nextSibling;
      morph(current, wanted);
    } else {
      old.insertBefore(wanted, next);
    }
  }
  const wantedKeys = new Set([...fresh.children].map(keyOf).filter(Boolean));
  while (next) {
    const gone = next;
    next = next.nextSibling;
    if (!(keyOf(gone) && wantedKeys.has(keyOf(gone)))) gone.remove();
  }
}

// --- Reading the page anew ---------------------------------------------------------------------------------------

let reading = null;
let again = false;

async function readPage(url) {
  const answer = await fetch(url, { headers: { "X-Console-Live": "1" }, credentials: "same-origin" });
  if (answer.status === 401) {
    leave(); // the sign-in is over: the page itself leads through a new one
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("live");
  if (!fresh) return;
  const before = statuses(live);
  enhance(fresh);
  morph(live, fresh);
  document.title = page.title;
  announce(before, statuses(live));
}

/** Open the page anew, also where it was the answer to a form, which is not to be sent again. */
function leave() {
  location.replace(location.pathname + location.search);
}

/** One reading at a time; what is asked for meanwhile is one more reading afterwards. */
function refresh() {
  if (reading) {
    again = true;
    return reading;
  }
  reading = readPage(location.href)
    .catch(() => { again = false; }) // the stream notices a lost connection, and asks again after it
    .finally(() => {
      reading = null;
      if (again) {
        again = false;
        refresh();
      }
    });
  return reading;
}

// --- Saying what changed to those who don't see it ------------------------------------------------------------------

function statuses(root) {
  return new Map(
    [...root.querySelectorAll("[data-announce]")].map((element, index) => {
      const tenant = element.closest("[data-name]")?.dataset.name;
      const key = element.closest("[id]").id || index;
      return [key, (tenant ? `${tenant}, ` : "") + element.dataset.announce];
    }),
  );
}

function announce(before, after) {
  const changed = [...after].filter(([key, status]) => before.get(key) !== status).map(([, status]) => status);
  if (changed.length) document.getElementById("announcements").textContent = changed.slice(0, 3).join(". ");
}

// --- Small comforts -------------------------------------------------------------------------------------------------

function enhance(root) {
  showTimes(root);
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
}

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(copy.dataset.copy);
    const label = copy.textContent;
    copy.textContent = copy.dataset.done;
    document.getElementById("announcements").textContent = copy.dataset.done;
    setTimeout(() => { copy.textContent = label; }, 2000);
    return;
  }
  const swap = event.target.closest("a[data-swap]");
  if (swap && live && !(event.metaKey || event.ctrlKey || event.shiftKey || event.button)) {
    event.preventDefault();
    history.replaceState(null, "", swap.getAttribute("href").split("#")[0]);
    await refresh();
  }
});

// A second click while the first is on its way would start a second run.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (button?.getAttribute("aria-busy")) event.preventDefault();
  else button?.setAttribute("aria-busy", "true");
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[aria-busy]")) button.removeAttribute("aria-busy");
});

// --- The stream -----------------------------------------------------------------------------------------------------

function say(state) {
  const shown = document.querySelector("[data-live]");
  if (!shown) return;
  shown.hidden = false;
  shown.dataset.state = state;
  shown.textContent = state === "on" ? shown.dataset.on : shown.dataset.off;
}

function connect() {
  const source = new EventSource(live.dataset.events);
  source.addEventListener("open", () => say("on"));
  source.addEventListener("changed", refresh);
  source.addEventListener("ended", leave);
  source.addEventListener("error", () => {
    say("off");
    // The browser reconnects by itself, except after an answer that says no.
    if (source.readyState === EventSource.CLOSED) refresh().finally(() => setTimeout(connect, 3000));
  });
  addEventListener("pagehide", () => source.close(), { once: true });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }, { once: true });
}

// The answer to a form that was filled wrongly stands at the form's address, where nothing can be read anew.
if (live?.dataset.page) history.replaceState(null, "", live.dataset.page);
enhance(document.body);
setInterval(() => showTimes(document.body), 30_000);
if (live) connect();
