// Keeps the live part of the page current: every event of the stream is only a hint to fetch it again, so that
// nothing is missed after a lost connection. Without this script the page works by reload.
const part = document.getElementById("live");
const liveness = document.getElementById("liveness");
let fetching = false;
let again = false;

async function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const response = await fetch("/live");
    if (response.ok) part.innerHTML = await response.text();
  } catch {
    // The stream's own error handler says so, and its next event fetches again.
  }
  fetching = false;
  if (again) {
    again = false;
    refresh();
  }
}

const stream = new EventSource("/events");
stream.addEventListener("changed", () => {
  liveness.textContent = "Live";
  refresh();
});
stream.addEventListener("error", () => {
  liveness.textContent = "Connection lost, trying again";
});
